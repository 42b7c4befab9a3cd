// A MoE layer with several replicas of its experts: rows go to the replica that their lane feeds, and nothing else changes.
#include <gtest/gtest.h>

#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

Case case_of(int replicas) {
  Case c;
  c.options.experts = 3;
  c.shape.bias = true;
  c.accumulate = 2;
  c.replicas = replicas;
  return c;
}

bool of_an_expert(const std::string& name) { return name.starts_with("moe.expert."); }

TEST(ExpertReplicas, AreFedAlikeOnEveryNumberOfRanks) {
  for (const int replicas : {2, 3, 5}) {
    const Case c = case_of(replicas);
    const Result alone = run_step(c, 1);
    for (int ranks = 2; ranks <= 8; ++ranks) {
      EXPECT_EQ(differences(run_step(c, ranks), alone), "") << replicas << " replicas on " << ranks << " ranks";
    }
  }
}

TEST(ExpertReplicas, ComputeTheBitsOfOne) {
  const Result one = run_step(case_of(1), 2);
  for (const int replicas : {2, 3}) {
    const Result several = run_step(case_of(replicas), 4);
    for (const auto& [name, values] : one) {
      if (of_an_expert(name)) continue;
      EXPECT_EQ(several.at(name), values) << name << " with " << replicas << " replicas";
    }
  }
}

// The gradient of replica k is what lanes w with w mod R = k alone give one replica.
TEST(ExpertReplicas, SumTheGradientsOfTheLanesThatFeedThem) {
  constexpr int kReplicas = 3;
  const Result several = run_step(case_of(kReplicas), 4);
  for (int replica = 0; replica < kReplicas; ++replica) {
    Result alone;
    run_ranks(1, [&](Communicator& communicator) {
      const Case c = case_of(1);
      Rank rank(c, communicator);
      Sink sink(c.precision.exact);
      for (int a = 0; a < c.accumulate; ++a) {
        for (int lane = replica; lane < c.lanes; lane += kReplicas) rank.run(lane, a, nullptr, &sink);
      }
      for (const auto& [name, buffer] : sink.buffers()) alone[name] = to_doubles(sink.tensor(name));
    });
    const std::string suffix = replica > 0 ? "@" + std::to_string(replica) : "";
    int compared = 0;
    for (const auto& [name, values] : alone) {
      if (!of_an_expert(name)) continue;
      EXPECT_EQ(several.at(name + suffix), values) << name << suffix;
      ++compared;
    }
    EXPECT_EQ(compared, 3 * 4) << "matrices and biases of three experts";
  }
}

}  // namespace
}  // namespace switchyard
