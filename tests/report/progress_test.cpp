#include "src/report/progress.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

StepMetrics at_step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 4.12345;
  metrics.tokens_per_second = 1234567.4;
  return metrics;
}

TEST(Progress, TheTextHasStepLossSpeedDropsAndTimeLeft) {
  StepMetrics metrics = at_step(120);
  EXPECT_EQ(progress_text(metrics, 2000, 200), "step 120/2000  loss 4.1235  1,234,567 tokens/s  ETA 3 min 20 s");
  metrics.tokens_per_second = 950;
  metrics.dropped_fraction = 0.013;
  metrics.layers.resize(1);
  EXPECT_EQ(progress_text(metrics, 2000, 7500), "step 120/2000  loss 4.1235  950 tokens/s  dropped 1.3 %  ETA 2 h 5 min");
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(progress_text(metrics, 2000, 0.1), "step 120/2000  loss nan  950 tokens/s  dropped 1.3 %  ETA 1 s");
}

TEST(Progress, WherePayloadsAreCompressedTheTextHasTheLargestError) {
  StepMetrics metrics = at_step(1);
  metrics.layers.resize(2);
  metrics.layers[0].payload_error = {{"dispatch", 0.006}, {"combine", std::numeric_limits<double>::quiet_NaN()}};
  metrics.layers[1].payload_error = {{"dispatch", 0.0057}, {"combine", 0.02549}};
  EXPECT_EQ(progress_text(metrics, 2, 1), "step 1/2  loss 4.1235  1,234,567 tokens/s  dropped 0.0 %  payload error 2.55 %  ETA 1 s");
  for (LayerMetrics& layer : metrics.layers) {
    for (auto& [way, error] : layer.payload_error) error = std::numeric_limits<double>::quiet_NaN();
  }
  EXPECT_EQ(progress_text(metrics, 2, 1), "step 1/2  loss 4.1235  1,234,567 tokens/s  dropped 0.0 %  ETA 1 s") << "all have fallen back";
}

std::string shown(bool terminal) {
  Scratch scratch;
  std::FILE* stream = std::fopen(scratch.path("out").c_str(), "w");
  Progress progress(stream, terminal, 4);
  progress.show(at_step(2), 2, 200);
  progress.show(at_step(4), 4, 400);
  progress.finish();
  progress.finish();
  std::fclose(stream);
  return read_file(scratch.path("out"));
}

TEST(Progress, PlainLinesFollowOneAnother) {
  EXPECT_EQ(shown(false), "step 2/4  loss 4.1235  1,234,567 tokens/s  ETA 3 min 20 s\nstep 4/4  loss 4.1235  1,234,567 tokens/s  ETA 0 s\n");
}

TEST(Progress, ATerminalsLineIsRewrittenAndEndsOnce) {
  const std::string blanks = std::string(std::string("3 min 20 s").size() - std::string("0 s").size(), ' ');
  EXPECT_EQ(shown(true), "\rstep 2/4  loss 4.1235  1,234,567 tokens/s  ETA 3 min 20 s\rstep 4/4  loss 4.1235  1,234,567 tokens/s  ETA 0 s" + blanks + "\n");
}

}  // namespace
}  // namespace switchyard
