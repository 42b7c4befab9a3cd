// Blocks of fixed size: the same results as from rows that were counted, without anybody telling how many there are.
#include <gtest/gtest.h>

#include <algorithm>

#include "src/moe/capacity.h"
#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

Case usual(Precision precision) {
  Case c = large_blocks_with_losses(precision);
  c.options.capacity_factor = 1.25;
  return c;
}

std::vector<NamedCase> cases() {
  return in_both_precisions(usual, [](const AddCase& add) {
    add("Usual").accumulate = 2;
    Case& crowded = add("OneExpertCrowdedOthersEmpty");
    crowded.options.experts = 5;
    crowded.weight_scale = [](const std::string& name, int64_t row, int64_t) { return name == "moe.router.weight" && row == 2 ? 30.0 : 0.5; };
    Case& groups = add("ShortGroups");
    groups.options.group_tokens = 70;  // the last is shorter
    Case& gated = add("GatedWithBiasAndDropout");
    gated.shape.activation = Activation::kGelu;
    gated.shape.gated = gated.shape.bias = true;
    gated.options.expert_dropout = 0.2;
    Case& empty = add("EmptyLaneAndALaneOfPadding");  // 3 lanes on 2 and 4 ranks
    empty.lanes = 3;
    empty.mask = [](int lane, int64_t) { return lane == 1 ? 0 : 1; };
    Case& replicas = add("Replicas");
    replicas.lanes = 4;
    replicas.replicas = 2;
    Case& payloads = add("Payloads");
    payloads.options.payload.format.fill(PayloadFormat::kInt8);
  });
}

class FixedBlocks : public testing::TestWithParam<NamedCase> {};

// A token's entry has another number in a list with empty rows. Where those are rows of a product too, the library may sum
// the others in another order; and what compressed rows lose is measured for empty ones as well.
Result comparable(Result result, bool sums_over_rows) {
  std::erase_if(result, [&](const auto& item) {
    const std::string& name = item.first;
    return name.starts_with("position") || (!sums_over_rows && (name.starts_with("moe.expert") || name.starts_with("payload")));
  });
  return result;
}

TEST_P(FixedBlocks, HaveTheBitsOfCountedRowsButForSumsOverRows) {
  Case c = GetParam().c;
  const Result counted = comparable(run_step(c, 1), false);
  c.options.fixed_block = fixed_block(c.options, c.tokens);
  EXPECT_EQ(differences(counted, comparable(run_step(c, 2), false)), "");
}

TEST_P(FixedBlocks, HaveTheBitsOfCountedRowsInPlainSums) {
  Case c = GetParam().c;
  c.backend = make_reference_backend;
  c.precision = kPrecisionF64;
  c.shape.bias = false;  // an empty row is zeros all the way
  const Result counted = comparable(run_step(c, 1), true);
  c.options.fixed_block = fixed_block(c.options, c.tokens);
  EXPECT_EQ(differences(counted, comparable(run_step(c, 2), true)), "");
}

TEST_P(FixedBlocks, HaveTheSameBitsOnAnyNumberOfRanksInAnyNumberOfChunks) {
  Case c = GetParam().c;
  c.options.fixed_block = fixed_block(c.options, c.tokens);
  const Result whole = run_step(c, 1);
  for (const int chunks : {1, 2}) {
    c.options.overlap_chunks = chunks;
    for (const int ranks : {1, 2, 3, 4}) {
      if (ranks > c.lanes && c.lanes > 3) continue;
      EXPECT_EQ(differences(whole, run_step(c, ranks)), "") << chunks << " chunks on " << ranks << " ranks";
    }
  }
}

// The last micro-batch of an epoch.
TEST_P(FixedBlocks, HoldMicroBatchesThatAreShorterThanTheirs) {
  Case c = GetParam().c;
  const int64_t longest = c.tokens;
  c.tokens -= 130;
  const Result counted = comparable(run_step(c, 1), false);
  c.options.fixed_block = fixed_block(c.options, longest);
  EXPECT_EQ(differences(counted, comparable(run_step(c, 2), false)), "");
}

INSTANTIATE_TEST_SUITE_P(All, FixedBlocks, testing::ValuesIn(cases()), [](const auto& tested) { return tested.param.name; });

TEST(FixedBlock, HoldsWhatAnExpertKeepsOfAllGroups) {
  MoeOptions options{.experts = 4, .capacity_factor = 1.5, .min_capacity = 1};
  EXPECT_EQ(fixed_block(options, 100), 37);
  options.group_tokens = 30;
  EXPECT_EQ(fixed_block(options, 100), 4 * 11);
  options.capacity_factor = 9;
  EXPECT_EQ(fixed_block(options, 100), 100) << "no more than there are tokens";
  EXPECT_EQ(fixed_block(options, 0), 0);
}

// Waits are told by copies to the host: of the exchange there must be none in training, and no counts may travel.
TEST(FixedBlocksExchange, NeitherCountsNorWaits) {
  Case c = usual(kPrecisionF32);
  for (const bool fixed : {false, true}) {
    c.options.fixed_block = fixed ? fixed_block(c.options, c.tokens) : 0;
    for (const bool training : {false, true}) {
      c.training = training;
      run_ranks(2, [&](Communicator& communicator) {
        Rank rank(c, communicator);
        rank.trace.record(1000);
        rank.run(communicator.rank(), 0, nullptr, nullptr);
        const std::vector<TraceEvent> events = rank.trace.events();
        const bool counts = std::any_of(events.begin(), events.end(), [](const TraceEvent& event) { return event.bytes > 0 && std::string(event.name) == "expert counts"; });
        EXPECT_EQ(counts, !(fixed && training)) << (fixed ? "fixed" : "counted") << (training ? ", training" : ", evaluation");
        EXPECT_NE(rank.kept.router.unread, nullptr) << "the router's numbers were read before anybody asked";
      });
    }
  }
}

}  // namespace
}  // namespace switchyard
