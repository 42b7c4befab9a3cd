// Several replicas of each expert: the same bits on every number of ranks, and those of one replica but for rounding.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

struct Case {
  const char* name;
  int replicas, experts;
  void (*change)(TinyJob&) = [](TinyJob&) {};
};
void PrintTo(const Case& variant, std::ostream* out) { *out << variant.name; }

TinyJob job_of(const Case& variant) {
  TinyJob job = tiny_job();
  job.trainer.train.expert_replicas = variant.replicas;
  job.trainer.model.moe.experts = variant.experts;
  variant.change(job);
  return job;
}

class Replicated : public testing::TestWithParam<Case> {};

TEST_P(Replicated, EveryNumberOfRanksComputesTheSameBits) {
  const TinyJob job = job_of(GetParam());
  const Trail alone = trail_of(job, 1, 3);
  for (const int ranks : {2, 3, 4, 5, 8}) expect_same(trail_of(job, ranks, 3), alone, std::to_string(ranks) + " ranks");
}

void two_of_nine(TinyJob& job) {
  job.trainer.model.moe.top_k = 2;
  job.trainer.model.moe.shared_experts = 2;
  job.trainer.model.moe.feed_forward = 10;
}

void soft(TinyJob& job) {
  job.trainer.model.moe.router = RouterKind::kSoft;
  job.trainer.model.moe.soft_slots = 3;
  job.trainer.model.moe.balance_loss = job.trainer.model.moe.z_loss = 0;
}

void bf16_with_biases(TinyJob& job) {
  job.cpu_backend = true;
  job.trainer.precision = kPrecisionBF16;
  job.trainer.model.bias = true;
}

INSTANTIATE_TEST_SUITE_P(All, Replicated,
                         testing::Values(Case{"Two", 2, 6}, Case{"Three", 3, 6}, Case{"MoreRanksThanExperts", 2, 3}, Case{"MoreRanksThanReplicasOfAll", 3, 2},
                                         Case{"AsManyAsLanes", 8, 6}, Case{"TwoChoicesAndSharedExperts", 3, 9, two_of_nine}, Case{"Soft", 2, 6, soft},
                                         Case{"BF16WithBiases", 2, 6, bf16_with_biases},
                                         Case{"InTwoChunks", 3, 6, [](TinyJob& job) { job.trainer.model.moe.overlap_chunks = 2; }},
                                         Case{"GatedWithoutAccumulation", 3, 6,
                                              [](TinyJob& job) {
                                                job.trainer.model.gated = true;
                                                job.trainer.train.accumulate = 1;
                                              }},
                                         Case{"OfNoExperts", 2, 1}),
                         [](const testing::TestParamInfo<Case>& parameter) { return parameter.param.name; });

// By name, the gradients of the first step.
std::map<std::string, std::vector<float>> gradients_of(int replicas, double& loss) {
  std::map<std::string, std::vector<float>> gradients;
  TinyJob job = tiny_job();
  job.trainer.train.expert_replicas = replicas;
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    loss = rank.trainer().step(rank.batches()).loss.total();
    ParameterStore& store = rank.trainer().runtime().store();
    for (const PlacedBlock& block : store.blocks()) {
      const Tensor gradient = store.owned()[static_cast<size_t>(block.owned_index)].gradient;
      std::vector<float>& all = gradients[block.parameter->name];
      all.insert(all.end(), gradient.get<float>(), gradient.get<float>() + gradient.elements());
    }
  });
  return gradients;
}

TEST(Replicas, ChangeTheGradientsOfExpertsByRoundingAloneAndNothingElse) {
  double loss = 0;
  const auto expected = gradients_of(1, loss);
  for (const int replicas : {2, 3, 8}) {
    double other_loss = 0;
    const auto gradients = gradients_of(replicas, other_loss);
    EXPECT_EQ(other_loss, loss) << "no replica computes anything else";
    double largest = 0;
    for (const auto& [name, values] : expected) {
      const std::vector<float>& other = gradients.at(name);
      ASSERT_EQ(other.size(), values.size());
      double difference = 0, norm = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        difference += std::pow(double{other[i]} - double{values[i]}, 2);
        norm += std::pow(double{values[i]}, 2);
      }
      ASSERT_GT(norm, 0) << name;
      const double relative = std::sqrt(difference / norm), ulp = std::pow(2, -23);
      largest = std::max(largest, relative);
      EXPECT_LE(relative, name.find(".expert.") == std::string::npos ? 0 : 4 * ulp) << name << " with " << replicas << " replicas";
    }
    EXPECT_GT(largest, 0) << replicas << " replicas add their lanes in the order of one";
  }
}

TEST(Replicas, AreResumedOnOtherNumbersOfRanks) {
  TinyJob job = tiny_job();
  job.trainer.train.expert_replicas = 2;
  const TemporaryFolder folder;
  const std::vector<std::string> digests = train_saving_every_step(job, 2, 4, folder.path());
  for (const int ranks : {1, 3, 5}) EXPECT_EQ(resume_and_train(job, ranks, folder.path(), 2, 4), digests[4]) << ranks << " ranks";
}

TEST(Replicas, DivideAnExpertsBlocksAmongItsHosts) {
  for (const int replicas : {2, 3}) {
    for (const int ranks : {1, 2, 3, 4, 8}) {
      TinyJob job = tiny_job();
      job.trainer.train.expert_replicas = replicas;
      job.trainer.model.moe.experts = 8;
      const std::string what = std::to_string(replicas) + " replicas on " + std::to_string(ranks) + " ranks";
      run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
        ParameterStore& store = rank.trainer().runtime().store();
        std::vector<int64_t> owned(static_cast<size_t>(ranks), 0);
        for (const PlacedBlock& block : store.blocks()) {
          const Parameter& parameter = *block.parameter;
          if (parameter.kind != ParameterKind::kExpert) continue;
          owned[static_cast<size_t>(block.owner)] += block.range.rows * parameter.columns();
          std::set<int> hosts;
          for (int replica = 0; replica < replicas; ++replica) hosts.insert(rank.trainer().runtime().parts().grid.owner(0, parameter.expert, 8, replica));
          EXPECT_TRUE(hosts.contains(block.owner)) << parameter.name << ": its owner hosts no replica; " << what;
          EXPECT_EQ(parameter.hosted(), hosts.contains(communicator.rank())) << parameter.name << " on rank " << communicator.rank() << ", " << what;
        }
        const auto [least, most] = std::minmax_element(owned.begin(), owned.end());
        EXPECT_LE(*most - *least, 2 * 16 * 24) << "one rank owns more than an expert beyond another; " << what;
      });
    }
  }
}

TEST(Replicas, OfTheGridAndOfTheOptionsMustAgree) {
  const TinyJob job = tiny_job();
  run_ranks(1, [&](Communicator& communicator) {
    const Grid grid(0, 1, job.trainer.train.lanes, 2);
    const auto backend = make_reference_backend();
    Trace trace;
    EXPECT_THROW(Trainer({*backend, communicator, grid, trace}, job.trainer), InternalError);
  });
}

}  // namespace
}  // namespace switchyard
