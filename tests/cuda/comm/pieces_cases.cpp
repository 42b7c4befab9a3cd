// The copies within the device, and what is said of devices.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "comm/nccl/move_rows.h"
#include "tests/cuda/comm/device_ranks.h"

namespace switchyard::cuda {
namespace {

using Bytes = std::vector<unsigned char>;

// Every second row of `from`, in reverse, to rows of `to` with one row between; behind a start of `skip` bytes.
std::vector<Move> scattered(int64_t count, int64_t row_bytes, int64_t skip) {
  std::vector<Move> moves;
  for (int64_t i = 0; i < count; ++i) moves.push_back({.to = skip + (count - 1 - i) * 2 * row_bytes, .from = skip + i * 2 * row_bytes, .bytes = row_bytes});
  return moves;
}

TEST(MoveRows, CopiesEveryMoveAndNothingElse) {
  SWITCHYARD_NEEDS(Way::kStaged);
  Gpu gpu(device_of_rank());
  struct Shape {
    int64_t count, row_bytes, skip;
    int64_t base = 0;  // where the source begins in its memory
  };
  // One, several launches, more than one word for each thread; words of 16, 4 and 2 bytes, and rows at multiples of 8.
  for (const Shape& shape :
       {Shape{1, 16, 0}, Shape{300, 48, 0}, Shape{129, 20, 4}, Shape{128, 6, 2}, Shape{3, 20000, 0}, Shape{2, 16, 2}, Shape{5, 24, 8}, Shape{5, 32, 0, 8}}) {
    const int64_t bytes = shape.skip + shape.count * 2 * shape.row_bytes;
    Bytes source(static_cast<size_t>(bytes));
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<unsigned char>(i * 7 + i / 251);
    Bytes expected(source.size(), 0);
    const std::vector<Move> moves = scattered(shape.count, shape.row_bytes, shape.skip);
    for (const Move& move : moves) std::copy_n(source.begin() + move.from, move.bytes, expected.begin() + move.to);
    const auto program = [&] {
      const Buffer memory(shape.base + bytes, gpu.memory()), to(bytes, gpu.memory());
      char* const from = static_cast<char*>(memory.data()) + shape.base;
      Bytes found(source.size());
      require(cudaMemcpyAsync(from, source.data(), source.size(), cudaMemcpyHostToDevice, gpu.compute()), "cudaMemcpyAsync");
      move_rows(gpu.compute(), to.data(), from, moves);
      require(cudaMemcpyAsync(found.data(), to.data(), found.size(), cudaMemcpyDeviceToHost, gpu.compute()), "cudaMemcpyAsync");
      gpu.finish();
      return found;
    };
    EXPECT_EQ(same_under_every_schedule(program), expected) << shape.count << " rows of " << shape.row_bytes << " bytes behind " << shape.skip;
  }
}

TEST(MoveRows, RefusesOddBytes) {
  SWITCHYARD_NEEDS(Way::kStaged);
  Gpu gpu(device_of_rank());
  const Buffer memory(64, gpu.memory());
  const Move odd{.to = 32, .from = 0, .bytes = 3};
  EXPECT_THROW(move_rows(gpu.compute(), memory.data(), memory.data(), {&odd, 1}), InternalError);
}

TEST(DeviceReport, SaysWhyThereIsNoDevice) {
  EXPECT_EQ(why_no_device(cudaErrorInsufficientDriver, 0, 13000), "no NVIDIA driver is installed");
  EXPECT_EQ(why_no_device(cudaErrorInsufficientDriver, 12040, 13000),
            "the NVIDIA driver knows CUDA 12.4 at most, this program needs 13.0: install a newer driver");
  EXPECT_NE(why_no_device(cudaErrorStubLibrary, 0, 13000).find("LD_LIBRARY_PATH"), std::string::npos);
  EXPECT_NE(why_no_device(cudaErrorNoDevice, 13000, 13000).find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  EXPECT_NE(why_no_device(cudaErrorUnknown, 13000, 13000).find("cudaErrorUnknown"), std::string::npos);
}

TEST(DeviceReport, HasALineForEachDeviceAndLibrary) {
  SWITCHYARD_NEEDS(Way::kStaged);
  std::istringstream lines(device_report());
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    ASSERT_NE(tab, std::string::npos) << line;
    EXPECT_GT(line.size(), tab + 1) << line;
    names.push_back(line.substr(0, tab));
  }
  std::vector<std::string> expected = {"CUDA runtime", "cuBLAS", "NCCL", "GPU driver", "GPUs"};
  for (int number = 0; number < devices(); ++number) {
    expected.push_back("GPU " + std::to_string(number));
    if (devices() > 1) expected.push_back("GPU " + std::to_string(number) + " reaches");
  }
  EXPECT_EQ(names, expected);
  EXPECT_NE(describe_device(0).find(", device 0; driver "), std::string::npos) << describe_device(0);
}

}  // namespace
}  // namespace switchyard::cuda
