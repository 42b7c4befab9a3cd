#include "src/optim/optimizer.h"

#include <cmath>
#include <string>

#include "src/base/error.h"

namespace switchyard {
namespace {

class AdamWOptimizer : public Optimizer {
 public:
  explicit AdamWOptimizer(const OptimizerOptions& options) : options_(options) {}

  int moments() const override { return 2; }
  const char* moment_name(int moment) const override { return moment == 0 ? "m" : "v"; }

  // m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  g = gradient * gradient_scale
  // w -= rate * (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay * w)
  void apply(Backend& backend, const OwnedBlock& block, const Update& update, std::span<const double>) const override {
    check(update.t >= 1, "AdamW: updates are numbered from 1");
    const double t = static_cast<double>(update.t);
    AdamW step;
    step.learning_rate = update.rate;
    step.beta1 = options_.beta1;
    step.beta2 = options_.beta2;
    step.epsilon = options_.epsilon;
    step.decay = block.decay ? options_.decay : 0;
    step.correction1 = 1 - std::pow(options_.beta1, t);
    step.correction2 = 1 - std::pow(options_.beta2, t);
    step.gradient_scale = update.gradient_scale;
    backend.adamw(block.master, block.moments[0], block.moments[1], block.gradient, step);
  }

 private:
  OptimizerOptions options_;
};

class SgdOptimizer : public Optimizer {
 public:
  explicit SgdOptimizer(const OptimizerOptions& options) : options_(options) {}

  int moments() const override { return options_.momentum > 0 ? 1 : 0; }
  const char* moment_name(int) const override { return "m"; }

  // m = momentum m + gradient * gradient_scale;  w -= rate * (m + decay * w)
  void apply(Backend& backend, const OwnedBlock& block, const Update& update, std::span<const double>) const override {
    Sgd step;
    step.learning_rate = update.rate;
    step.momentum = options_.momentum;
    step.decay = block.decay ? options_.decay : 0;
    step.gradient_scale = update.gradient_scale;
    backend.sgd(block.master, moments() > 0 ? block.moments[0] : Tensor(), block.gradient, step);
  }

 private:
  OptimizerOptions options_;
};

void require(bool holds, const char* field, double value, const char* rule) {
  if (!holds) throw Error(ExitCode::kUsage, std::string("optimizer.") + field + " is " + std::to_string(value) + " but must be " + rule);
}

// False for NaN too.
bool below_one(double value) { return value >= 0 && value < 1; }

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options) {
  require(options.decay >= 0 && std::isfinite(options.decay), "decay", options.decay, "a finite number that is not negative");
  if (options.kind == OptimizerKind::kSgd) {
    require(below_one(options.momentum), "momentum", options.momentum, "at least 0 and below 1");
    return std::make_unique<SgdOptimizer>(options);
  }
  require(below_one(options.beta1), "beta1", options.beta1, "at least 0 and below 1");
  require(below_one(options.beta2), "beta2", options.beta2, "at least 0 and below 1");
  require(options.epsilon > 0 && std::isfinite(options.epsilon), "epsilon", options.epsilon, "a finite number above 0");
  return std::make_unique<AdamWOptimizer>(options);
}

double clip_scale(double clip_norm, double norm) { return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1; }

}  // namespace switchyard
