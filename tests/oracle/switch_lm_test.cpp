// A 2-block Switch model against what PyTorch computes: routing, logits, every part of the loss, the gradient of every
// parameter, and 20 steps of plain SGD. README.md says how the vectors are made.
#include "src/model/decoder.h"
#include "tests/backend_under_test.h"
#include "tests/model/model_world.h"
#include "tests/oracle/vectors.h"

namespace switchyard::test {
namespace {

constexpr double kOracleTolerance = 1e-4;  // relative, in the 2-norm of a tensor

void expect_close(double ours, const Tensor& theirs, const std::string& what) {
  EXPECT_NEAR(ours, get(theirs, 0), kOracleTolerance * std::abs(get(theirs, 0))) << what;
}

ModelOptions options_of(const nlohmann::json& m) {
  ModelOptions options;
  options.vocabulary = m.at("vocabulary");
  options.width = m.at("width");
  options.heads = m.at("heads");
  options.head_width = m.at("head_width");
  options.feed_forward = m.at("feed_forward");
  options.blocks = 2;
  options.sequence_length = m.at("sequence");
  options.norm = {.kind = m.at("norm") == "layer_norm" ? NormKind::kLayerNorm : NormKind::kRmsNorm, .epsilon = m.at("epsilon")};
  options.bias = m.at("bias");
  options.scale_tied_head = m.at("scale_head");
  options.scale_attention = m.at("scale_scores");
  options.z_loss = m.at("z_loss");
  options.moe.experts = m.at("experts");
  options.moe.capacity_factor = m.at("capacity_factor");
  options.moe.min_capacity = m.at("min_capacity");
  options.moe.group_tokens = m.at("group_tokens");
  options.moe.jitter = 0;
  options.moe.balance_loss = m.at("balance_loss");
  options.moe.z_loss = m.at("router_z_loss");
  return options;
}

// One of the file's models, with PyTorch's weights.
struct Oracle {
  Oracle(const std::string& model_name, std::unique_ptr<Backend> backend)
      : name(model_name + "."),
        vectors(SWITCHYARD_SOURCE_DIR "/tests/oracle/switch_lm.safetensors"),
        options(vectors.models().at(model_name)),
        world(options_of(options), kPrecisionF32, std::move(backend)) {
    for (Parameter* parameter : world.store.parameters()) {
      const Tensor theirs = vectors[name + "weight." + parameter->name];
      check(theirs.shape() == parameter->shape, "the oracle's weight has another shape");
      std::memcpy(world.store.master(*parameter).data(), theirs.data(), static_cast<size_t>(theirs.bytes()));
    }
    world.store.publish();
  }

  Tensor operator[](const std::string& tensor) const { return vectors[name + tensor]; }

  Batch batch(int64_t step) {
    const int64_t length = options.at("sequence");
    const auto row = [&](const char* tensor) { return vectors[name + tensor].slice_rows(step, 1).reshape({vectors[name + tensor].columns()}); };
    Batch b(world.bench, {}, length, world.model.options());
    b.batch.tokens = row("batch.tokens");
    b.batch.targets = row("batch.targets");
    b.batch.mask = row("batch.mask");
    b.batch.sequences = b.batch.tokens.rows() / length;
    const int64_t group = group_tokens_of(world.model.options().moe, b.batch.rows());
    for (int64_t first = 0; first < b.batch.rows(); first += group) {
      int64_t real = 0;
      for (int64_t t = first; t < std::min(first + group, b.batch.rows()); ++t) {
        real += b.batch.mask.get<int32_t>()[t];
        b.counts.targets += b.batch.targets.get<int32_t>()[t] >= 0 ? 1 : 0;
      }
      b.counts.tokens += real;
      b.counts.groups += real > 0 ? 1 : 0;
    }
    return b;
  }

  std::string name;
  Vectors vectors;
  nlohmann::json options;
  World world;
};

struct Case {
  std::string model;
  std::string backend;
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.model << " on " << c.backend; }
};

class SwitchLm : public ::testing::TestWithParam<Case> {
 protected:
  Oracle oracle{GetParam().model, GetParam().backend == "reference" ? make_reference_backend() : backend_under_test(1)};
  World& world = oracle.world;
};

TEST_P(SwitchLm, RoutesAndDropsTheSameTokens) {
  const Batch batch = oracle.batch(0);
  const Arena::Mark saved_mark(world.bench.saved);
  world.model.forward(world.ctx(), batch.batch, batch.counts, world.saved);
  const Tensor expert = oracle["expert"], kept = oracle["kept"];
  world.model.for_each_moe(world.saved, [&](int, const MoeLayer::Saved& moe) {
    for (int64_t t = 0; t < batch.batch.rows(); ++t) {
      EXPECT_EQ(get(moe.route().expert, t), get(expert, t)) << "token " << t;
      EXPECT_EQ(get(moe.route().position, t) >= 0, get(kept, t) == 1) << "token " << t;
    }
  });
}

TEST_P(SwitchLm, LogitsAndEveryPartOfTheLoss) {
  const Batch batch = oracle.batch(0);
  const Tensor h = world.forward(batch);
  const Tensor theirs = oracle["logits"];
  EXPECT_LE(distance(world.model.logits(world.ctx(), h), theirs), kOracleTolerance);

  const Tensor row_loss = world.bench.tensor(Dtype::kF32, {h.rows()}), correct = world.bench.tensor(Dtype::kI32, {h.rows()});
  world.model.evaluate(world.ctx(), h, batch.batch, Out(row_loss), Out(correct));
  double cross_entropy = 0;
  for (int64_t t = 0; t < h.rows(); ++t) {
    cross_entropy += get(row_loss, t) / static_cast<double>(batch.counts.targets);
    const float* logits = theirs.row<float>(t);
    const int64_t best = std::max_element(logits, logits + theirs.columns()) - logits;
    EXPECT_EQ(get(correct, t), static_cast<double>(best) == get(batch.batch.targets, t) ? 1 : 0) << "token " << t;
  }
  const MicroBatchLoss loss = world.step(batch, world.grads);
  expect_close(cross_entropy, oracle["loss.cross_entropy"], "cross-entropy");
  expect_close(loss.cross_entropy - cross_entropy, oracle["loss.z"], "z loss of the vocabulary");
  expect_close(loss.balance, oracle["loss.balance"], "balance loss");
  expect_close(loss.router_z, oracle["loss.router_z"], "z loss of the router");
}

TEST_P(SwitchLm, TheGradientOfEveryParameter) {
  world.step(oracle.batch(0), world.grads);
  for (const Parameter* parameter : world.store.parameters()) {
    EXPECT_LE(distance(world.grads.gradient(*parameter), oracle["gradient." + parameter->name]), kOracleTolerance) << parameter->name;
  }
}

TEST_P(SwitchLm, TwentyStepsOfPlainSgd) {
  const Tensor losses = oracle["step_losses"];
  const Sgd sgd{.learning_rate = oracle.options.at("rate")};
  for (int64_t step = 0; step < losses.elements(); ++step) {
    TestGradients grads(Dtype::kF32);
    expect_close(world.step(oracle.batch(step), grads).total(), losses.slice_rows(step, 1), "loss of step " + std::to_string(step));
    for (Parameter* parameter : world.store.parameters()) {
      world.bench.backend->sgd(world.store.master(*parameter), {}, grads.gradient(*parameter), sgd);
    }
    world.store.publish();
  }
  for (const Parameter* parameter : world.store.parameters()) {
    EXPECT_LE(distance(world.store.master(*parameter), oracle["after." + parameter->name]), kOracleTolerance) << parameter->name;
  }
}

INSTANTIATE_TEST_SUITE_P(PyTorch, SwitchLm,
                         ::testing::Values(Case{"layer_norm", "reference"}, Case{"rms_norm", "reference"}, Case{"layer_norm", "tested"}, Case{"rms_norm", "tested"}),
                         [](const auto& param) { return param.param.model + "_" + param.param.backend; });

}  // namespace
}  // namespace switchyard::test
