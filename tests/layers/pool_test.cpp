#include "src/layers/pool.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(bool padding) {
  LayerCheck check;
  const PoolLayer layer{.padding = padding};
  const Tensor x = check.bench.normal({6, 5}, 3), mask = check.bench.integers({1, 1, 0, 0, 0, 1});
  PoolLayer::Saved saved;
  check.run(
      {2, 5}, [&] { return layer.forward(check.ctx(), x, 3, mask, saved); }, [&](Tensor dy) { return layer.backward(check.ctx(), dy, saved); },
      [&](Tensor dx) {
        return std::vector<Checked>{{"x", x, dx}};
      });
}

TEST(Pool, GradientsAreSlopes) { check_gradients(false); }
TEST(Pool, GradientsAreSlopesWherePaddingCounts) { check_gradients(true); }

TEST(Pool, IsTheMeanOfTheRowsThatCount) {
  LayerCheck check;
  const Tensor x = check.bench.normal({6, 5}, 3), mask = check.bench.integers({1, 1, 0, 0, 0, 0});
  PoolLayer::Saved saved;
  const Tensor y = PoolLayer{.padding = false}.forward(check.ctx(), x, 3, mask, saved);
  const Tensor all = PoolLayer{.padding = true}.forward(check.ctx(), x, 3, mask, saved);
  const Tensor unmasked = PoolLayer{.padding = false}.forward(check.ctx(), x, 3, {}, saved);
  for (int64_t c = 0; c < 5; ++c) {
    EXPECT_NEAR(get(y, c), (get(x, c) + get(x, 5 + c)) / 2, 1e-15);
    EXPECT_EQ(get(y, 5 + c), 0) << "a sequence of padding has the mean 0";
    EXPECT_NEAR(get(all, c), (get(x, c) + get(x, 5 + c) + get(x, 10 + c)) / 3, 1e-15);
  }
  EXPECT_TRUE(same_bits(all, unmasked));
}

TEST(Pool, OfNoSequencesIsNothing) {
  LayerCheck check;
  PoolLayer::Saved saved;
  const Tensor x = check.bench.normal({0, 5}, 3);
  EXPECT_EQ(PoolLayer{}.forward(check.ctx(), x, 3, {}, saved).rows(), 0);
  EXPECT_EQ(PoolLayer{}.backward(check.ctx(), check.bench.normal({0, 5}, 4), saved).rows(), 0);
}

}  // namespace
}  // namespace switchyard::test
