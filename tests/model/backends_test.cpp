// The model on the backend under test, in f32 and bf16, against the reference in f64 with the same routes.
#include "tests/backend_under_test.h"
#include "tests/model/model_world.h"

namespace switchyard::test {
namespace {

const std::vector<std::vector<int32_t>> kSequences = {{1, 5, 2, 9, 10, 30, 21, 7, 7, 3}, {7, 7, 3, 2, 1, 12, 13, 25, -1, -1}, {4, 0, 8, 6, 6, 19, 31, 2, 2, 5}};

ModelOptions options() {
  ModelOptions options = small_options();
  options.vocabulary = 33;
  options.width = 40;
  options.heads = 2;
  options.head_width = 24;
  options.feed_forward = 72;
  options.sequence_length = 10;
  return options;
}

// Hidden units far from the kink of ReLU, so that rounding turns none on or off.
template <class Kind>
void leave_kinks(WorldOf<Kind>& world) {
  for (Parameter* parameter : world.store.parameters()) {
    if (!parameter->name.ends_with("in.bias") && !parameter->name.ends_with("hidden.bias")) continue;
    for (int64_t i = 0; i < parameter->columns(); ++i) set(world.store.master(*parameter), i, i % 2 == 0 ? 4 : -4);
    world.store.publish(*parameter);
  }
}

// Loss and gradients of the backend are as close to f64 as `precision` allows. batch_of(bench) makes the batch.
template <class Kind, class BatchOf>
void compare(const ModelOptions& model, const Precision& precision, double loss_tolerance, double gradient_tolerance, BatchOf batch_of) {
  RouteBook book;
  WorldOf<Kind> exact(model);
  exact.ctx().routes = &book;
  leave_kinks(exact);
  const double expected = exact.step(batch_of(exact.bench), exact.grads).total();
  book.mode = RouteBook::Mode::kReplay;
  WorldOf<Kind> tested(model, precision, backend_under_test(1));
  tested.ctx().routes = &book;
  leave_kinks(tested);
  const double loss = tested.step(batch_of(tested.bench), tested.grads).total();
  EXPECT_NEAR(loss, expected, loss_tolerance * expected);
  for (size_t i = 0; i < exact.store.parameters().size(); ++i) {
    const Tensor ours = tested.grads.gradient(*tested.store.parameters()[i]), theirs = exact.grads.gradient(*exact.store.parameters()[i]);
    EXPECT_LE(distance(ours, theirs), gradient_tolerance) << exact.store.parameters()[i]->name;
  }
}

void compare(const Precision& precision, double loss_tolerance, double gradient_tolerance) {
  compare<Decoder>(options(), precision, loss_tolerance, gradient_tolerance, [](Bench& bench) { return Batch(bench, kSequences, 10, options()); });
}

// Three texts of three classes, the second one shorter; norms behind sublayers.
void compare_classifier(const Precision& precision, double loss_tolerance, double gradient_tolerance) {
  ModelOptions model = options();
  model.kind = ModelKind::kClassifier;
  model.norm_place = NormPlace::kPost;
  model.classifier = {.classes = 3, .hidden = 20, .dropout = 0.2};
  compare<Classifier>(model, precision, loss_tolerance, gradient_tolerance, [&](Bench& bench) {
    return LabelledBatch(bench, kSequences, {2, 1, 0}, 10, model);
  });
}

TEST(ModelOnBackend, F32IsCloseToF64) { compare(kPrecisionF32, 1e-6, 1e-5); }
TEST(ModelOnBackend, BF16IsNearF64) { compare(kPrecisionBF16, 1e-2, 3e-2); }

TEST(ModelOnBackend, AClassifierInF32IsCloseToF64) { compare_classifier(kPrecisionF32, 1e-6, 2e-5); }
TEST(ModelOnBackend, AClassifierInBF16IsNearF64) { compare_classifier(kPrecisionBF16, 2e-2, 6e-2); }

TEST(ModelOnBackend, AnEmptyLaneAddsNothing) {
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    World world(options(), precision, backend_under_test(1));
    EXPECT_EQ(world.step(Batch(world.bench, {}, 10, options()), world.grads).total(), 0);
    for (const Parameter* parameter : world.store.parameters()) {
      const Tensor gradient = world.grads.gradient(*parameter);
      EXPECT_EQ(dot(gradient, gradient), 0) << parameter->name;
    }
  }
}

TEST(ModelOnBackend, ThreadsDoNotChangeABit) {
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    World one(options(), precision, backend_under_test(1)), two(options(), precision, backend_under_test(2));
    const double loss_one = one.step(Batch(one.bench, kSequences, 10, options()), one.grads).total();
    const double loss_two = two.step(Batch(two.bench, kSequences, 10, options()), two.grads).total();
    EXPECT_EQ(loss_one, loss_two);
    for (size_t i = 0; i < one.store.parameters().size(); ++i) {
      const Parameter& parameter = *one.store.parameters()[i];
      EXPECT_TRUE(same_bits(one.grads.gradient(parameter), two.grads.gradient(*two.store.parameters()[i]))) << parameter.name;
    }
  }
}

// One token at a time against all at once: f32 within 1e-5 with equal greedy tokens, bf16 within 2e-2.
TEST(ModelOnBackend, CachedLogitsEqualUncached) {
  ModelOptions no_drops = options();
  no_drops.moe.eval_capacity_factor = 0;
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    World world(no_drops, precision, backend_under_test(1));
    world.ctx().training = false;
    const std::vector<int32_t>& sequence = kSequences[0];
    const Tensor h = world.forward(Batch(world.bench, {sequence}, 10, no_drops));
    const Tensor expected = world.bench.copy(world.model.logits(world.ctx(), h));
    Decoder::Cache cache = world.model.make_cache(world.ctx(), 1, 10);
    double largest = 0;
    for (int64_t i = 0; i < expected.elements(); ++i) largest = std::max(largest, std::abs(get(expected, i)));
    for (int64_t t = 0; t < 10; ++t) {
      const Arena::Mark saved_mark(world.bench.saved), scratch_mark(world.bench.scratch);
      const Tensor token = world.bench.integers({sequence[static_cast<size_t>(t)]});
      const Tensor logits = world.model.logits(world.ctx(), world.model.forward_cached(world.ctx(), token, cache));
      const float *ours = logits.row<float>(0), *theirs = expected.row<float>(t);
      const double tolerance = (precision.activation == Dtype::kBF16 ? 2e-2 : 1e-5) * largest;
      for (int64_t n = 0; n < no_drops.vocabulary; ++n) EXPECT_NEAR(ours[n], theirs[n], tolerance) << "token " << t;
      if (precision.activation == Dtype::kF32) {
        EXPECT_EQ(std::max_element(ours, ours + no_drops.vocabulary) - ours, std::max_element(theirs, theirs + no_drops.vocabulary) - theirs);
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::test
