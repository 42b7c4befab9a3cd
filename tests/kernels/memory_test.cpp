#include "kernels/memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

// Under the address sanitizer a request that is too large gives a null pointer, as it does without, and does not abort.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options();
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace switchyard {
namespace {

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

TEST(Buffer, IsAlignedAndZeroFilled) {
  const Buffer buffer(1000);
  EXPECT_TRUE(aligned(buffer.data()));
  EXPECT_EQ(buffer.bytes(), 1000);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(static_cast<const char*>(buffer.data())[i], 0) << "byte " << i;
}

TEST(Buffer, OfNoBytesHasNoMemory) { EXPECT_EQ(Buffer(0).data(), nullptr); }

TEST(Buffer, MovesItsMemory) {
  Buffer a(64);
  void* data = a.data();
  Buffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  Buffer c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.bytes(), 64);
}

TEST(Buffer, RefusesATensorLargerThanItself) {
  const Buffer buffer(40);
  EXPECT_EQ(buffer.tensor(Dtype::kF32, {2, 5}).data(), buffer.data());
  EXPECT_THROW(buffer.tensor(Dtype::kF32, {11}), InternalError);
}

TEST(Buffer, SaysHowMuchWasAskedForWhereThereIsNoMemory) {
  try {
    const Buffer buffer(int64_t{1} << 60);
    FAIL() << "2^60 bytes were given";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kFailure);
    EXPECT_NE(std::string(error.what()).find(std::to_string(int64_t{1} << 60)), std::string::npos) << error.what();
  }
}

TEST(Buffer, MakeBufferRefusesASizeThatWrapsAround) { EXPECT_THROW(make_buffer(Dtype::kF64, {int64_t{1} << 61}), Error); }

TEST(Arena, GivesAlignedPiecesThatDoNotOverlap) {
  Arena arena("test", 4096);
  const Tensor a = arena.take(Dtype::kF32, {3});
  const Tensor b = arena.take(Dtype::kBF16, {5, 7});
  EXPECT_TRUE(aligned(a.data()));
  EXPECT_TRUE(aligned(b.data()));
  EXPECT_GE(static_cast<char*>(b.data()) - static_cast<char*>(a.data()), a.bytes());
  EXPECT_EQ(b.shape(), (Shape{5, 7}));
  EXPECT_EQ(b.dtype(), Dtype::kBF16);
  EXPECT_EQ(arena.used(), 64 + 128);
  EXPECT_EQ(arena.name(), "test");
}

TEST(Arena, MarkGivesBackWhatWasTakenSince) {
  Arena arena("test", 4096);
  arena.take(Dtype::kF32, {16});
  const void* inside = nullptr;
  {
    const Arena::Mark mark(arena);
    inside = arena.take(Dtype::kF32, {16}).data();
    {
      const Arena::Mark inner(arena);
      arena.take(Dtype::kF32, {160});
    }
    EXPECT_EQ(arena.used(), 128);
  }
  EXPECT_EQ(arena.used(), 64);
  EXPECT_EQ(arena.take(Dtype::kF32, {16}).data(), inside) << "the same memory is used again";
}

TEST(Arena, HighWaterOutlivesMarks) {
  Arena arena("test", 4096);
  {
    const Arena::Mark mark(arena);
    arena.take(Dtype::kF32, {256});
  }
  EXPECT_EQ(arena.used(), 0);
  EXPECT_EQ(arena.high_water(), 1024);
  arena.take(Dtype::kF32, {16});
  EXPECT_EQ(arena.high_water(), 1024);
}

TEST(Arena, GrowsWithoutMovingWhatItGave) {
  Arena arena("test", 1024);
  const Tensor first = arena.take(Dtype::kI32, {200});
  first.get<int32_t>()[199] = 42;
  arena.take(Dtype::kF32, {200});    // a second block
  arena.take(Dtype::kF32, {10000});  // larger than a block
  EXPECT_EQ(first.get<int32_t>()[199], 42);
  EXPECT_GE(arena.reserved(), 1024 + 1024 + 40000);
}

TEST(Arena, TakesNoNewMemoryTheSecondTime) {
  Arena arena("test", 1024);
  const auto step = [&] {
    const Arena::Mark mark(arena);
    for (int i = 0; i < 5; ++i) arena.take(Dtype::kF32, {100 + 200 * i});
  };
  step();
  const int64_t reserved = arena.reserved(), high_water = arena.high_water();
  for (int i = 0; i < 3; ++i) step();
  EXPECT_EQ(arena.reserved(), reserved);
  EXPECT_EQ(arena.high_water(), high_water);
  EXPECT_EQ(arena.used(), 0);
}

TEST(Arena, TakesEmptyTensors) {
  Arena arena("test", 1024);
  const Tensor empty = arena.take(Dtype::kF32, {0, 8});
  EXPECT_TRUE(empty.exists());
  EXPECT_EQ(empty.rows(), 0);
  EXPECT_EQ(empty.columns(), 8);
  EXPECT_EQ(arena.used(), 0);
}

TEST(Tensor, NoneDoesNotExist) {
  EXPECT_FALSE(Tensor().exists());
  EXPECT_TRUE(Tensor(nullptr, Dtype::kF32, {0, 3}).exists());
}

TEST(Tensor, CountsRowsColumnsAndBytes) {
  const Tensor x(nullptr, Dtype::kBF16, {2, 3, 5});
  EXPECT_EQ(x.rows(), 2);
  EXPECT_EQ(x.columns(), 15);
  EXPECT_EQ(x.elements(), 30);
  EXPECT_EQ(x.bytes(), 60);
  EXPECT_TRUE(x.contiguous());
}

TEST(Tensor, SlicesOfRowsStayInside) {
  const Buffer buffer(4 * 12);
  const Tensor x = buffer.tensor(Dtype::kF32, {4, 3});
  EXPECT_EQ(x.slice_rows(1, 2).data(), x.get<float>() + 3);
  EXPECT_EQ(x.slice_rows(4, 0).rows(), 0);
  EXPECT_THROW(x.slice_rows(3, 2), InternalError);
  EXPECT_THROW(x.slice_rows(-1, 2), InternalError);
  EXPECT_THROW(x.slice_rows(0, -1), InternalError);
  const Tensor four(buffer.data(), Dtype::kF32, {2, 1, 3, 2});
  EXPECT_EQ(four.slice_rows(1, 1).shape(), (Shape{1, 1, 3, 2}));
  EXPECT_EQ(four.slice_rows(1, 1).data(), four.get<float>() + 6);
}

TEST(Tensor, SlicesOfColumnsKeepTheStride) {
  const Buffer buffer(4 * 12);
  const Tensor x = buffer.tensor(Dtype::kF32, {4, 3});
  const Tensor part = x.slice_columns(1, 2);
  EXPECT_EQ(part.row_stride(), 3);
  EXPECT_EQ(part.row<float>(2), x.get<float>() + 7);
  EXPECT_FALSE(part.contiguous());
  EXPECT_TRUE(part.slice_rows(2, 1).contiguous()) << "one row is always contiguous";
  EXPECT_THROW(part.reshape({8}), InternalError);
  EXPECT_THROW(x.slice_columns(2, 2), InternalError);
  EXPECT_THROW(Tensor(buffer.data(), Dtype::kF32, {12}).slice_columns(0, 1), InternalError);
}

TEST(Tensor, RefusesAnotherDtypeAndAnotherNumberOfElements) {
  const Buffer buffer(48);
  const Tensor x = buffer.tensor(Dtype::kF32, {4, 3});
  EXPECT_THROW(x.get<double>(), InternalError);
  EXPECT_THROW(x.get<int32_t>(), InternalError) << "same size, another meaning";
  EXPECT_THROW(x.reshape({13}), InternalError);
  EXPECT_EQ(x.reshape({2, 6}).row_stride(), 6);
}

TEST(Shape, RefusesAFifthExtent) { EXPECT_THROW((Shape{1, 2, 3, 4, 5}), InternalError); }

TEST(Shape, RefusesMoreElementsThan64BitsCount) { EXPECT_THROW((Shape{int64_t{1} << 40, int64_t{1} << 40}.elements()), InternalError); }

TEST(BFloat16, RoundsToNearestTiesToEven) {
  const auto bits = [](float value) { return BFloat16(value).bits; };
  EXPECT_EQ(bits(1.0f), 0x3f80);
  EXPECT_EQ(bits(1.0f + 0x1p-8f), 0x3f80) << "a tie goes to the even neighbour below";
  EXPECT_EQ(bits(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_EQ(bits(1.0f + 3 * 0x1p-8f), 0x3f82) << "a tie goes to the even neighbour above";
  EXPECT_EQ(bits(-0.0f), 0x8000);
  EXPECT_EQ(bits(3.4e38f), 0x7f80) << "beyond the largest: infinity";
  EXPECT_EQ(bits(0x1p-133f), 0x0001) << "the smallest subnormal";
}

TEST(BFloat16, KeepsNaN) {
  const float nan = std::bit_cast<float>(0x7f800001u);  // its payload is in the half that is cut off
  EXPECT_NE(static_cast<float>(BFloat16(nan)), static_cast<float>(BFloat16(nan)));
}

}  // namespace
}  // namespace switchyard
