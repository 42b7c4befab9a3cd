// The gradient of whole models, with the route frozen.
#include "tests/model/model_world.h"

namespace switchyard::test {
namespace {

const std::vector<std::vector<int32_t>> kSequences = {{1, 5, 2, 9, 10}, {7, 7, 3, -1, -1}, {4, 0, 8, 6, -1}};

template <class Kind>
void check_slopes(WorldOf<Kind>& world, const Batch& batch, const ModelOptions& options) {
  RouteBook book;
  world.ctx().routes = &book;
  book.mode = RouteBook::Mode::kRecord;
  world.step(batch, world.grads);
  if (options.moe.experts > 1) {
    EXPECT_GT(world.dropped(), 0) << "capacity does not bind: the check sees no dropped token";
  }
  book.mode = RouteBook::Mode::kReplay;
  GradientCheck check([&] { return world.loss(batch); });
  check(world.store, world.grads);
}

void check_gradients(const ModelOptions& options, uint64_t seed = 1) {
  World world(options, kPrecisionF64, make_reference_backend(), seed);
  check_slopes(world, Batch(world.bench, kSequences, 5, options), options);
}

// The last text is padding only; the one before it is no example.
void check_classifier(const ModelOptions& options, uint64_t seed = 1) {
  ClassifierWorld world(options, kPrecisionF64, make_reference_backend(), seed);
  std::vector<std::vector<int32_t>> texts = kSequences;
  texts.push_back({2, 3, -1, -1, -1});
  texts.push_back({-1, -1, -1, -1, -1});
  check_slopes(world, LabelledBatch(world.bench, texts, {2, 0, 1, -1, 1}, 5, options), options);
}

TEST(ModelGradient, IsTheSlopeOfTheLossWithLayerNormAndBiases) { check_gradients(small_options()); }

TEST(ModelGradient, IsTheSlopeOfTheLossWithRmsNormAndUnscaledHead) {
  ModelOptions options = small_options();
  options.norm = {.kind = NormKind::kRmsNorm, .epsilon = 1e-6};
  options.bias = false;
  options.scale_tied_head = false;
  options.scale_attention = true;
  options.moe.group_tokens = 0;
  check_gradients(options, 3);
}

TEST(ModelGradient, IsTheSlopeOfTheLossForTheDenseTwin) {
  ModelOptions options = small_options();
  options.moe.experts = 1;
  check_gradients(options);
}

TEST(ModelGradient, IsTheSlopeOfTheLossWithNormsBehindSublayers) {
  ModelOptions options = small_options();
  options.norm_place = NormPlace::kPost;
  check_gradients(options);
}

TEST(ModelGradient, IsTheSlopeOfTheLossWithARelativeBias) {
  ModelOptions options = small_options();
  options.position = Position::kRelativeBias;
  options.relative_buckets = 4;
  options.relative_distance = 5;
  check_gradients(options);
}

TEST(ModelGradient, IsTheSlopeOfTheLossWithGatedGelu) {
  ModelOptions options = small_options();
  options.activation = Activation::kGelu;
  options.gated = true;
  check_gradients(options);
}

TEST(ModelGradient, IsTheSlopeOfTheClassifiersLoss) { check_classifier(small_classifier()); }

TEST(ModelGradient, IsTheSlopeOfTheClassifiersLossWithStackedBlocksAndNoHiddenLayer) {
  ModelOptions options = small_classifier();
  options.blocks = 2;
  options.classifier.hidden = 0;
  check_classifier(options, 3);
}

TEST(ModelGradient, IsTheSlopeOfTheClassifiersLossOverPadding) {
  ModelOptions options = small_classifier();
  options.classifier.pool_padding = true;
  check_classifier(options);
  options.classifier.see_padding = true;
  check_classifier(options);
}

TEST(ModelGradient, IsTheSlopeOfTheClassifiersLossWithNormsBeforeSublayersAndARelativeBias) {
  ModelOptions options = small_classifier();
  options.norm_place = NormPlace::kPre;
  options.blocks = 2;
  options.moe.every = 2;
  options.position = Position::kRelativeBias;
  options.relative_buckets = 6;
  options.relative_distance = 5;
  check_classifier(options);
}

}  // namespace
}  // namespace switchyard::test
