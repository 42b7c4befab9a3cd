// Kernels that are wrong in one way each.
#include <device/seam.h>

#include <cmath>

#include "tests/cuda_emulation/self_test/defects.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

using cuda::dynamic_shared;
using cuda::launch;
using cuda::shared_storage;

constexpr unsigned kAll = 0xffffffffu;

__global__ void write_at(float* out, int i) {
  if (threadIdx.x == 0) out[i] = 1.0f;
}

void global_one_past_the_end() {
  const DeviceArray<float> out(100);
  settle(launch(&write_at, {1, 32}, out.data(), 100));
}

void global_one_before() {
  const DeviceArray<float> out(100);
  settle(launch(&write_at, {1, 32}, out.data(), -1));
}

void global_far_past_the_end() {
  const DeviceArray<float> out(100);
  settle(launch(&write_at, {1, 32}, out.data(), 100 + 512));
}

__global__ void read_dynamic_at(float* out, int i) {
  float* shared = dynamic_shared<float>();
  shared[threadIdx.x] = 1.0f;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = shared[i];
}

void dynamic_shared_past_the_end() {
  const DeviceArray<float> out(1);
  settle(launch(&read_dynamic_at, {1, 32, 128}, out.data(), 32));
}

struct Pair {
  float first[32];
  float second[32];
};

__global__ void read_member_at(float* out, int i) {
  Pair& shared = shared_storage<Pair>();
  shared.first[threadIdx.x] = 1.0f;
  shared.second[threadIdx.x] = 2.0f;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = shared.first[i];
}

void shared_member_past_its_end() {
  const DeviceArray<float> out(1);
  settle(launch(&read_member_at, {1, 32}, out.data(), 32));
}

__global__ void write_pair(float* out) { *reinterpret_cast<float2*>(out + 1) = make_float2(1, 2); }

void misaligned_pair() {
  const DeviceArray<float> out(4);
  settle(launch(&write_pair, {1, 1}, out.data()));
}

__global__ void index_in_32_bits(float* out, int rows, int width) {
  const int i = rows * width;
  out[i & 1] = 1.0f;
}

void index_overflow() {
  const DeviceArray<float> out(2);
  settle(launch(&index_in_32_bits, {1, 1}, out.data(), 70000, 70000));
}

struct Tile {
  float values[64];
};

__global__ void without_barrier(float* out) {
  Tile& tile = shared_storage<Tile>();
  tile.values[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = tile.values[63 - threadIdx.x];
}

void missing_barrier() {
  const DeviceArray<float> out(64);
  compare_schedules([&] {
    settle(launch(&without_barrier, {1, 64}, out.data()));
    std::vector<float> values = out.host();
    for (float& value : values) value = std::isnan(value) ? -1 : value;
    return values;
  });
}

// Each round's largest over the warps, but nothing keeps the next round's from taking the place of this one's.
__global__ void rounds_without_last_barrier(float* out, int rounds) {
  Tile& tile = shared_storage<Tile>();
  for (int round = 0; round < rounds; ++round) {
    float largest = static_cast<float>(threadIdx.x + 100 * round);
    for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, distance));
    if (threadIdx.x % 32 == 0) tile.values[threadIdx.x / 32] = largest;
    __syncthreads();
    out[64 * round + static_cast<int>(threadIdx.x)] = fmaxf(tile.values[0], tile.values[1]);
  }
}

void missing_barrier_before_the_next_round() {
  const DeviceArray<float> out(3 * 64);
  compare_schedules([&] {
    settle(launch(&rounds_without_last_barrier, {1, 64}, out.data(), 3));
    return out.host();
  });
}

__global__ void write_block(float* out) {
  if (threadIdx.x == 0) out[0] = static_cast<float>(blockIdx.x);
}

void two_blocks_one_cell() {
  const DeviceArray<float> out(1);
  compare_schedules([&] {
    settle(launch(&write_block, {4, 32}, out.data()));
    return out.host();
  });
}

__global__ void count_plainly(float* out) { out[0] += 1; }

void counter_without_atomics() {
  DeviceArray<float> out(1);
  compare_schedules([&] {
    out.zero();
    settle(launch(&count_plainly, {2, 64}, out.data()));
    return out.host();
  });
}

__global__ void shuffle_then_read(float* out) {
  Tile& tile = shared_storage<Tile>();
  tile.values[threadIdx.x] = 1.0f;
  const int zero = __shfl_sync(kAll, 0, 0);
  out[threadIdx.x] = tile.values[threadIdx.x ^ 1] + static_cast<float>(zero);
}

void shuffle_as_a_fence() {
  const DeviceArray<float> out(64);
  compare_schedules([&] {
    settle(launch(&shuffle_then_read, {1, 64}, out.data()));
    return out.host();
  });
}

__global__ void add_floats(float* out, const float* in) { atomicAdd(out, in[blockIdx.x * blockDim.x + threadIdx.x]); }

void float_atomics() {
  std::vector<float> terms(4096);
  for (size_t i = 0; i < terms.size(); ++i) terms[i] = 1.0f / static_cast<float>(i + 1);
  const DeviceArray<float> in(terms);
  DeviceArray<float> out(1);
  compare_schedules([&] {
    out.zero();
    settle(launch(&add_floats, {16, 256}, out.data(), in.data()));
    return out.host();
  });
}

__global__ void two_barriers(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[0] = 1.0f;
  } else {
    __syncthreads();
    out[1] = 2.0f;
  }
}

void divergent_barrier() {
  const DeviceArray<float> out(2);
  settle(launch(&two_barriers, {1, 64}, out.data()));
}

__global__ void return_then_barrier(float* out, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

void thread_leaves_before_barrier() {
  const DeviceArray<float> out(64);
  settle(launch(&return_then_barrier, {1, 64}, out.data(), 40));
}

__global__ void half_a_shuffle(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 1);
}

void thread_leaves_before_shuffle() {
  const DeviceArray<float> out(16);
  settle(launch(&half_a_shuffle, {1, 32}, out.data()));
}

__global__ void shuffle_past_the_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffu, 1.0f, 1);
}

void shuffle_from_outside_the_mask() {
  const DeviceArray<float> out(16);
  settle(launch(&shuffle_past_the_mask, {1, 32}, out.data()));
}

__global__ void half_a_syncwarp(float* out) {
  if (threadIdx.x < 16) {
    __syncwarp(kAll);
  } else {
    __syncthreads();
  }
  out[0] = 1.0f;
}

void incomplete_syncwarp() {
  const DeviceArray<float> out(1);
  settle(launch(&half_a_syncwarp, {1, 32}, out.data()));
}

__global__ void read_fresh_shared(float* out) { out[threadIdx.x] = shared_storage<Tile>().values[threadIdx.x]; }

void uninitialised_shared_memory() {
  const DeviceArray<float> out(64);
  settle(launch(&read_fresh_shared, {1, 64}, out.data()));
  if (std::isnan(out.host()[0])) notice("the result is NaN");
}

__global__ void twice(float* out, const float* in) { out[threadIdx.x] = 2 * in[threadIdx.x]; }

void uninitialised_device_memory() {
  const DeviceArray<float> out(64), in(64);
  settle(launch(&twice, {1, 64}, out.data(), in.data()));
  if (std::isnan(out.host()[0])) notice("the result is NaN");
}

constexpr Defect kDefects[] = {
    {"global_one_past_the_end", &global_one_past_the_end},
    {"global_one_before", &global_one_before},
    {"global_far_past_the_end", &global_far_past_the_end},
    {"dynamic_shared_past_the_end", &dynamic_shared_past_the_end},
    {"shared_member_past_its_end", &shared_member_past_its_end},
    {"misaligned_pair", &misaligned_pair},
    {"index_overflow", &index_overflow},
    {"missing_barrier", &missing_barrier},
    {"missing_barrier_before_the_next_round", &missing_barrier_before_the_next_round},
    {"two_blocks_one_cell", &two_blocks_one_cell},
    {"counter_without_atomics", &counter_without_atomics},
    {"shuffle_as_a_fence", &shuffle_as_a_fence},
    {"float_atomics", &float_atomics},
    {"divergent_barrier", &divergent_barrier},
    {"thread_leaves_before_barrier", &thread_leaves_before_barrier},
    {"thread_leaves_before_shuffle", &thread_leaves_before_shuffle},
    {"shuffle_from_outside_the_mask", &shuffle_from_outside_the_mask},
    {"incomplete_syncwarp", &incomplete_syncwarp},
    {"uninitialised_shared_memory", &uninitialised_shared_memory},
    {"uninitialised_device_memory", &uninitialised_device_memory},
};

}  // namespace

std::span<const Defect> defects_of_kernels() { return kDefects; }

}  // namespace switchyard::emulation
