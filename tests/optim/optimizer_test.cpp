#include "src/optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "src/base/error.h"

namespace switchyard {
namespace {

// A block of six elements in F64, and the numbers behind it.
struct Block {
  std::vector<double> master{1, -2, 3, 0.5, 0, -1}, gradient{0.1, 0.2, -0.3, 0.4, 0, 0.05}, m = std::vector<double>(6), v = std::vector<double>(6);

  OwnedBlock view(bool decay) {
    OwnedBlock block;
    block.master = tensor(master);
    block.gradient = tensor(gradient);
    block.moments[0] = tensor(m);
    block.moments[1] = tensor(v);
    block.decay = decay;
    return block;
  }
  static Tensor tensor(std::vector<double>& values) { return Tensor(values.data(), Dtype::kF64, {2, 3}); }
};

TEST(Optimizer, AdamWFollowsTheFormulaOverSeveralUpdates) {
  OptimizerOptions options;
  options.beta1 = 0.9;
  options.beta2 = 0.95;
  options.epsilon = 1e-6;
  options.decay = 0.1;
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
  const std::unique_ptr<Backend> backend = make_reference_backend();
  for (bool decay : {true, false}) {
    Block block;
    std::vector<double> w = block.master, m(6), v(6);
    for (int64_t t = 1; t <= 5; ++t) {
      const double eta = 0.01 * static_cast<double>(t), clip = 0.5;
      optimizer->apply(*backend, block.view(decay), {eta, clip, t}, {});
      for (size_t i = 0; i < w.size(); ++i) {
        const double g = block.gradient[i] * clip;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        const double m_hat = m[i] / (1 - std::pow(0.9, t)), v_hat = v[i] / (1 - std::pow(0.95, t));
        w[i] -= eta * m_hat / (std::sqrt(v_hat) + 1e-6) + (decay ? eta * 0.1 * w[i] : 0);
        EXPECT_NEAR(block.master[i], w[i], 1e-13) << "element " << i << " after update " << t;
        EXPECT_NEAR(block.m[i], m[i], 1e-15);
        EXPECT_NEAR(block.v[i], v[i], 1e-15);
      }
    }
  }
}

// The bias corrections must not depend on steps that were skipped: the caller numbers the updates.
TEST(Optimizer, AdamWsFirstUpdateIsTheRateTimesTheSign) {
  OptimizerOptions options;
  options.decay = 0;
  options.epsilon = 1e-12;
  const std::unique_ptr<Backend> backend = make_reference_backend();
  Block block;
  const std::vector<double> before = block.master;
  make_optimizer(options)->apply(*backend, block.view(true), {0.25, 1, 1}, {});
  EXPECT_NEAR(block.master[0], before[0] - 0.25, 1e-9);
  EXPECT_NEAR(block.master[2], before[2] + 0.25, 1e-9);
  EXPECT_EQ(block.master[4], before[4]) << "no gradient, no decay: no change";
}

TEST(Optimizer, AdamWRefusesAnUpdateNumberedZero) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  Block block;
  EXPECT_THROW(make_optimizer({})->apply(*backend, block.view(true), {0.1, 1, 0}, {}), InternalError);
}

TEST(Optimizer, SgdFollowsTheFormula) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  for (double momentum : {0.0, 0.75}) {
    OptimizerOptions options;
    options.kind = OptimizerKind::kSgd;
    options.momentum = momentum;
    options.decay = 0.5;
    const std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
    Block block;
    std::vector<double> w = block.master, speed(6);
    for (int64_t t = 1; t <= 3; ++t) {
      OwnedBlock view = block.view(true);
      if (optimizer->moments() == 0) view.moments[0] = Tensor();
      view.moments[1] = Tensor();
      optimizer->apply(*backend, view, {0.1, 2, t}, {});
      for (size_t i = 0; i < w.size(); ++i) {
        speed[i] = momentum * speed[i] + 2 * block.gradient[i];
        w[i] -= 0.1 * speed[i] + 0.1 * 0.5 * w[i];
        EXPECT_NEAR(block.master[i], w[i], 1e-14) << "momentum " << momentum << ", element " << i << ", update " << t;
      }
    }
  }
}

TEST(Optimizer, MomentsHaveTheNamesThatCheckpointsUse) {
  OptimizerOptions sgd;
  sgd.kind = OptimizerKind::kSgd;
  EXPECT_EQ(make_optimizer(sgd)->moments(), 0);
  sgd.momentum = 0.9;
  EXPECT_EQ(make_optimizer(sgd)->moments(), 1);
  EXPECT_STREQ(make_optimizer(sgd)->moment_name(0), "m");
  const std::unique_ptr<Optimizer> adamw = make_optimizer({});
  EXPECT_EQ(adamw->moments(), 2);
  EXPECT_STREQ(adamw->moment_name(0), "m");
  EXPECT_STREQ(adamw->moment_name(1), "v");
  EXPECT_EQ(adamw->measures(), 0);
}

TEST(Optimizer, ValuesOutsideTheirRangeAreUsageErrorsThatNameTheField) {
  const auto expect_refused = [](OptimizerOptions options, const char* field) {
    try {
      make_optimizer(options);
      FAIL() << field << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {-0.1, 1.0, nan}) {
    OptimizerOptions options;
    options.beta1 = bad;
    expect_refused(options, "optimizer.beta1");
    options = {};
    options.beta2 = bad;
    expect_refused(options, "optimizer.beta2");
    options = {};
    options.kind = OptimizerKind::kSgd;
    options.momentum = bad;
    expect_refused(options, "optimizer.momentum");
  }
  OptimizerOptions options;
  options.epsilon = 0;
  expect_refused(options, "optimizer.epsilon");
  options = {};
  options.decay = nan;
  expect_refused(options, "optimizer.decay");
}

TEST(ClipScale, BringsTheNormDownToTheBoundAndLeavesSmallerOnesAlone) {
  EXPECT_DOUBLE_EQ(clip_scale(1, 4), 0.25);
  EXPECT_DOUBLE_EQ(clip_scale(1, 1), 1);
  EXPECT_DOUBLE_EQ(clip_scale(1, 0.5), 1);
  EXPECT_DOUBLE_EQ(clip_scale(1, 0), 1);
  EXPECT_DOUBLE_EQ(clip_scale(0, 1e9), 1) << "0 means no clipping";
}

}  // namespace
}  // namespace switchyard
