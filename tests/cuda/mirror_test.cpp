// The mirror itself, in front of a backend of the host: nothing is lost on the way.
#include "tests/cuda/mirror.h"

#include <gtest/gtest.h>

#include "tests/kernels/every_operation.h"

namespace switchyard {
namespace {

constexpr int64_t kShift = 3;
const Extents kSmall{30, 20, 10, 5, 33, 7, 1001, {64}};

TEST(Mirror, EveryOperationHasTheBitsOfTheBackendBehindIt) {
  const auto reference = make_reference_backend();
  Mirror mirror(make_reference_backend());
  EveryOperation direct(*reference, Dtype::kF32, kSmall, kShift), mirrored(mirror, Dtype::kF32, kSmall, kShift);
  direct.all();
  mirrored.all();
  expect_same_results(mirrored, direct, "through a mirror");
}

TEST(Mirror, KeepsStridesAndWhatLiesBetweenTheRows) {
  Mirror mirror(make_reference_backend());
  Pool pool;
  const Tensor x = pool.uniform_strided(Dtype::kF32, 5, 7, 1, 2), copy = pool.as(Dtype::kF32, x);
  mirror.zero(Out(x.slice_rows(1, 3)));
  pool.expect_gaps_untouched();
  for (int64_t c = 0; c < 7; ++c) {
    EXPECT_EQ(at(x, 0, c), at(copy, 0, c));
    EXPECT_EQ(at(x, 1, c) + at(x, 2, c) + at(x, 3, c), 0);
    EXPECT_EQ(at(x, 4, c), at(copy, 4, c));
  }
}

TEST(Mirror, OperandsInPlaceAreOneThere) {
  Mirror mirror(make_reference_backend());
  Pool pool;
  const Tensor x = pool.filled(Dtype::kF32, {2, 3}, 5);
  mirror.add(Out(x), x, x, {});
  for (int64_t c = 0; c < 3; ++c) EXPECT_EQ(at(x, 1, c), 10);
}

}  // namespace
}  // namespace switchyard
