// The norm that clipping uses is that of every gradient, each block once, wherever it is owned.
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "tests/train/tiny_helper.h"

namespace switchyard {
namespace {

double square(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.elements(); ++i) sum += double{x.get<float>()[i]} * double{x.get<float>()[i]};
  return sum;
}

TEST(GradientNorm, IsThatOfEveryGradientOnce) {
  for (const int ranks : {1, 3, 8}) {
    std::mutex mutex;
    double squares = 0, norm = 0;
    run_tiny(tiny_job(), ranks, [&](TinyRank& rank, Communicator&) {
      rank.trainer().initialise(1);
      const StepReport report = rank.trainer().step(rank.batches());
      const std::lock_guard lock(mutex);
      norm = report.gradient_norm;
      ParameterStore& store = rank.trainer().runtime().store();
      for (const PlacedBlock& block : store.blocks()) {
        if (block.owned_index < 0) continue;
        const double own = square(store.owned()[static_cast<size_t>(block.owned_index)].gradient);
        EXPECT_GT(own, 0) << block.parameter->name << " has no gradient: this test would not miss it";
        squares += own;
      }
    });
    EXPECT_NEAR(norm, std::sqrt(squares), 1e-9 * norm) << "on " << ranks << " ranks";
  }
}

}  // namespace
}  // namespace switchyard
