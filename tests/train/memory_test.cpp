// Arenas begin with what a step needs: one that grows later takes memory that the summary did not announce.
#include <gtest/gtest.h>

#include "src/model/accounting.h"
#include "src/moe/capacity.h"
#include "tests/train/tiny_helper.h"

namespace switchyard {
namespace {

struct Case {
  const char* name;
  void (*change)(TinyJob&);
};
void PrintTo(const Case& variant, std::ostream* out) { *out << variant.name; }

class ArenasOfAStep : public testing::TestWithParam<Case> {};

// Large enough that the rounding of an arena's pieces does not count.
TinyJob job_of(const Case& variant) {
  TinyJob job = tiny_job();
  job.cpu_backend = true;
  ModelOptions& model = job.trainer.model;
  model.width = 32;
  model.head_width = 16;
  model.feed_forward = 128;
  model.sequence_length = job.trainer.train.sequence_length = 64;
  model.moe.capacity_factor = 0;  // every token stays
  model.moe.group_tokens = 0;
  job.trainer.train.sequences = 8;
  variant.change(job);
  return job;
}

TEST_P(ArenasOfAStep, NeedNoMoreThanIsReckoned) {
  const TinyJob job = job_of(GetParam());
  const TrainOptions& train = job.trainer.train;
  for (const int ranks : {1, 2}) {
    const ArenaBytes reckoned =
        arena_bytes(job.trainer.model,
                    {.ranks = ranks,
                     .lanes = train.lanes,
                     .accumulate = train.accumulate,
                     .replicas = train.expert_replicas,
                     .sequences = train.sequences,
                     .precision = job.trainer.precision});
    run_tiny(job, ranks, [&](TinyRank& rank, Communicator&) {
      rank.trainer().initialise(1);
      rank.train(2);
      EXPECT_LE(rank.trainer().runtime().saved().high_water(), reckoned.saved) << "one of " << ranks;
      EXPECT_LE(rank.trainer().runtime().scratch().high_water(), reckoned.scratch) << "one of " << ranks;
      if (ranks > 1) return;
      EXPECT_GE(rank.trainer().runtime().saved().high_water(), reckoned.saved * 9 / 10) << "much is reckoned that nobody takes";
    });
  }
}

INSTANTIATE_TEST_SUITE_P(All, ArenasOfAStep,
                         testing::Values(Case{"F32", [](TinyJob&) {}}, Case{"BF16", [](TinyJob& job) { job.trainer.precision = kPrecisionBF16; }},
                                         Case{"TwoChoices", [](TinyJob& job) { job.trainer.model.moe.top_k = 2; }},
                                         Case{"Shared", [](TinyJob& job) { job.trainer.model.moe.shared_experts = 2; }},
                                         Case{"Replicas", [](TinyJob& job) { job.trainer.train.expert_replicas = 2; }},
                                         Case{"Gated", [](TinyJob& job) { job.trainer.model.gated = true; }},
                                         Case{"GatedBF16",
                                              [](TinyJob& job) {
                                                job.trainer.model.gated = true;
                                                job.trainer.precision = kPrecisionBF16;
                                              }},
                                         Case{"Gelu", [](TinyJob& job) { job.trainer.model.activation = Activation::kGelu; }},
                                         Case{"RelativeBias",
                                              [](TinyJob& job) {
                                                job.trainer.model.position = Position::kRelativeBias;
                                                job.trainer.model.relative_buckets = 8;
                                              }},
                                         Case{"Soft",
                                              [](TinyJob& job) {
                                                MoeOptions& moe = job.trainer.model.moe;
                                                moe.router = RouterKind::kSoft;
                                                moe.soft_slots = 10;
                                                moe.balance_loss = moe.z_loss = 0;
                                              }},
                                         Case{"Payloads", [](TinyJob& job) { job.trainer.model.moe.payload.format.fill(PayloadFormat::kInt8); }},
                                         Case{"PayloadsForwardBF16",
                                              [](TinyJob& job) {
                                                PayloadOptions& payload = job.trainer.model.moe.payload;
                                                payload.format[0] = payload.format[1] = PayloadFormat::kFp8;
                                                job.trainer.precision = kPrecisionBF16;
                                              }},
                                         Case{"PayloadsHome",
                                              [](TinyJob& job) {
                                                PayloadOptions& payload = job.trainer.model.moe.payload;
                                                payload.format[1] = payload.format[3] = PayloadFormat::kFp8;
                                                job.trainer.model.moe.top_k = 2;
                                              }},
                                         Case{"FixedBlocks",
                                              [](TinyJob& job) {
                                                const TrainOptions& train = job.trainer.train;
                                                job.trainer.model.moe.capacity_factor = 1.5;
                                                job.trainer.model.moe.fixed_block = fixed_block(job.trainer.model.moe, train.sequences * train.sequence_length);
                                              }},
                                         Case{"Dense", [](TinyJob& job) { job.trainer.model.moe.experts = 1; }}),
                         [](const testing::TestParamInfo<Case>& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace switchyard
