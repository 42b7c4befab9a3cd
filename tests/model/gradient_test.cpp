// The gradient of the whole model: two blocks, one of them MoE, with the route frozen.
#include "tests/model/model_world.h"

namespace switchyard::test {
namespace {

const std::vector<std::vector<int32_t>> kSequences = {{1, 5, 2, 9, 10}, {7, 7, 3, -1, -1}, {4, 0, 8, 6, -1}};

void check_gradients(const ModelOptions& options, uint64_t seed = 1) {
  World world(options, kPrecisionF64, make_reference_backend(), seed);
  const Batch batch(world.bench, kSequences, 5, options);
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

}  // namespace
}  // namespace switchyard::test
