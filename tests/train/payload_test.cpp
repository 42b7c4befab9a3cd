// Training with rows that travel compressed: the same bits everywhere, what is measured, and falling back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

struct Case {
  const char* name;
  PayloadFormat format;
  Precision precision;
};
void PrintTo(const Case& variant, std::ostream* out) { *out << variant.name; }

// Two MoE layers, every way compressed, rows that are one short block.
TinyJob job_of(PayloadFormat format, double bound = 0.05) {
  TinyJob job = tiny_job();
  job.trainer.model.moe.every = 1;
  job.trainer.model.moe.payload.format.fill(format);
  job.trainer.model.moe.payload.error_bound = bound;
  return job;
}

class PayloadJob : public testing::TestWithParam<Case> {
 protected:
  static TinyJob job() {
    TinyJob job = job_of(GetParam().format);
    job.trainer.precision = GetParam().precision;
    job.cpu_backend = true;
    return job;
  }
};
INSTANTIATE_TEST_SUITE_P(All, PayloadJob,
                         testing::Values(Case{"Int8", PayloadFormat::kInt8, kPrecisionF32}, Case{"Fp8", PayloadFormat::kFp8, kPrecisionF32},
                                         Case{"Fp8BF16", PayloadFormat::kFp8, kPrecisionBF16}),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

TEST_P(PayloadJob, EveryNumberOfRanksAndChunksComputesTheSameBits) {
  TinyJob job = PayloadJob::job();
  const Trail alone = trail_of(job, 1, 3);
  for (const int ranks : {2, 3, 4, 8}) expect_same(trail_of(job, ranks, 3), alone, std::to_string(ranks) + " ranks");
  for (const int chunks : {2, 4}) {
    job.trainer.model.moe.overlap_chunks = chunks;
    for (const int ranks : {1, 3}) expect_same(trail_of(job, ranks, 3), alone, std::to_string(chunks) + " chunks on " + std::to_string(ranks) + " ranks");
  }
}

TEST_P(PayloadJob, Learns) {
  const Trail trail = trail_of(PayloadJob::job(), 1, 40);
  EXPECT_LT(trail.losses.back(), trail.losses.front() - 0.5);
}

std::vector<StepReport> reports_of(const TinyJob& job, int ranks, int64_t steps) {
  std::vector<StepReport> reports;
  run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
    rank.trainer().initialise(1);
    for (int64_t step = 0; step < steps; ++step) {
      const StepReport report = rank.trainer().step(rank.batches());
      if (communicator.rank() == 0) reports.push_back(report);
    }
  });
  return reports;
}

TEST(PayloadReport, TellsWhatEachWayOfEachLayerLosesInTheSameBitsOnAnyNumberOfRanks) {
  TinyJob job = job_of(PayloadFormat::kInt8);
  job.trainer.model.moe.payload.format[1] = PayloadFormat::kFp8;
  const std::vector<StepReport> alone = reports_of(job, 1, 2);
  for (const StepReport& report : alone) {
    ASSERT_EQ(report.layers.size(), 2u);
    EXPECT_TRUE(report.fallbacks.empty());
    for (const LayerReport& layer : report.layers) {
      ASSERT_EQ(layer.payload_error.size(), kWays);
      for (const size_t way : {0, 2, 3}) EXPECT_THAT(layer.payload_error[way], testing::AllOf(testing::Gt(0.002), testing::Lt(0.02))) << "way " << way;
      EXPECT_THAT(layer.payload_error[1], testing::AllOf(testing::Gt(0.02), testing::Lt(0.03)));
    }
  }
  for (const int ranks : {2, 3, 8}) {
    const std::vector<StepReport> many = reports_of(job, ranks, 2);
    for (size_t step = 0; step < 2; ++step) {
      for (size_t layer = 0; layer < 2; ++layer) {
        EXPECT_EQ(many[step].layers[layer].payload_error, alone[step].layers[layer].payload_error) << ranks << " ranks, step " << step;
      }
    }
  }
}

TEST(PayloadReport, IsEmptyWithoutCompression) {
  for (const LayerReport& layer : reports_of(tiny_job(), 1, 1).at(0).layers) EXPECT_TRUE(layer.payload_error.empty());
}

TEST(PayloadReport, KnowsTheWaysOfActivationsInEvaluation) {
  const Trail trail = trail_of(job_of(PayloadFormat::kInt8), 2, 1);
  for (const LayerReport& layer : trail.evaluation.layers) {
    EXPECT_GT(layer.payload_error.at(0), 0.002);
    EXPECT_GT(layer.payload_error.at(1), 0.002);
    EXPECT_TRUE(std::isnan(layer.payload_error.at(2))) << "there is no backward";
  }
}

TEST(PayloadFallback, ComesWhereAWayLosesMoreThanTheBoundAndOnlyOnce) {
  TinyJob job = job_of(PayloadFormat::kInt8, 0.015);  // INT8 loses less, E4M3 more
  job.trainer.model.moe.payload.format[2] = PayloadFormat::kFp8;
  const std::vector<StepReport> reports = reports_of(job, 3, 3);
  ASSERT_EQ(reports[0].fallbacks.size(), 2u) << "one way of two layers";
  for (size_t layer = 0; layer < 2; ++layer) {
    const PayloadFallback& fallback = reports[0].fallbacks[layer];
    EXPECT_EQ(fallback.layer, static_cast<int>(layer));
    EXPECT_EQ(fallback.way, Way::kCombineBackward);
    EXPECT_EQ(fallback.error, reports[0].layers[layer].payload_error[2]);
    EXPECT_EQ(fallback.bound, 0.015);
    EXPECT_TRUE(std::isnan(reports[1].layers[layer].payload_error[2])) << "it is plain from the next step on";
    EXPECT_GT(reports[1].layers[layer].payload_error[3], 0) << "the others go on";
  }
  EXPECT_TRUE(reports[1].fallbacks.empty());
  EXPECT_TRUE(reports[2].fallbacks.empty());
}

// From the second step on nothing is compressed: what differs from a plain run is the first step alone.
TEST(PayloadFallback, HasTheSameBitsOnEveryNumberOfRanks) {
  const TinyJob job = job_of(PayloadFormat::kFp8, 1e-6);
  const Trail alone = trail_of(job, 1, 4);
  for (const int ranks : {2, 3, 4, 8}) expect_same(trail_of(job, ranks, 4), alone, std::to_string(ranks) + " ranks");
  EXPECT_NE(trail_of(job_of(PayloadFormat::kFp8, 0), 1, 4).digest, alone.digest) << "nothing fell back";
}

TEST(PayloadFallback, IsResumedOnOtherNumbersOfRanks) {
  for (const double bound : {1e-6, 0.05}) {
    const TinyJob job = job_of(PayloadFormat::kFp8, bound);
    const TemporaryFolder folder;
    const std::vector<std::string> digests = train_saving_every_step(job, 2, 4, folder.path());
    for (const int to : {1, 3, 4}) EXPECT_EQ(resume_and_train(job, to, folder.path(), 2, 4), digests[4]) << "bound " << bound << ", resumed on " << to;
  }
}

TEST(PayloadFallback, ASkippedStepDecidesNothing) {
  run_tiny(job_of(PayloadFormat::kFp8, 1e-6), 2, [](TinyRank& rank, Communicator& communicator) {
    rank.trainer().initialise(1);
    if (communicator.rank() == 1) {
      const Tensor master = rank.trainer().runtime().store().owned().back().master;
      std::fill_n(master.get<float>(), master.elements(), std::numeric_limits<float>::infinity());
    }
    rank.trainer().resume(rank.trainer().progress());
    const StepReport report = rank.trainer().step(rank.batches());
    EXPECT_FALSE(report.applied) << "what is not finite must arrive so";
    EXPECT_TRUE(report.fallbacks.empty());
    rank.trainer().runtime().model().visit_routers([](RouterState& state) { EXPECT_EQ(state.fallen_back, std::vector<int32_t>(kWays, 0)); });
  });
}

TEST(PayloadFallback, IsANamedTensorOfTheState) {
  run_tiny(job_of(PayloadFormat::kInt8), 1, [](TinyRank& rank, Communicator&) {
    const State state = rank.trainer().state();
    const auto found =
        std::find_if(state.begin(), state.end(), [](const StateTensor& tensor) { return tensor.name == "decoder.block.1.moe.router.payload_fallback"; });
    ASSERT_NE(found, state.end());
    EXPECT_EQ(found->shape, (Shape{4}));
    EXPECT_EQ(found->dtype, Dtype::kI32);
  });
}

}  // namespace
}  // namespace switchyard
