// The device language for a host compiler: what nvcc knows by itself and the vendor's headers do not declare for others.
// Included by device/seam.h only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>

#include "tests/cuda_emulation/device_calls.h"

// The vendor's headers let __shared__ vanish outside nvcc; a block's array would quietly become each thread's own.
#undef __shared__
#define __shared__ static_assert(false, "kernels take shared_storage<T>() or dynamic_shared<T>()");
#if !defined(__launch_bounds__)
#define __launch_bounds__(...)
#endif

#define threadIdx (::switchyard::emulation::this_thread->thread)
#define blockIdx (::switchyard::emulation::this_thread->block)
#define blockDim (::switchyard::emulation::this_thread->block_extent)
#define gridDim (::switchyard::emulation::this_thread->grid_extent)
inline constexpr int warpSize = 32;

namespace switchyard::emulation {

template <class T, class... Types>
concept OneOf = (std::same_as<T, Types> || ...);

// Exactly the types for which CUDA overloads: nvcc takes no others, so neither does this.
template <class T>
concept Matched = OneOf<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double>;
template <class T>
concept Shuffled = Matched<T> || OneOf<T, __nv_bfloat16, __nv_bfloat162>;
template <class T>
concept AtomicallyAdded = OneOf<T, int, unsigned, unsigned long long, float, double>;
template <class T>
concept AtomicInteger = OneOf<T, int, unsigned, unsigned long long, long long>;
template <class T>
concept Compared = Matched<T>;

template <class T>
uint64_t to_bits(const T& value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

template <Shuffled T>
T shuffle(WarpOperation operation, unsigned mask, T value, int argument, int width, CallSite where) {
  return from_bits<T>(warp_operation(operation, mask, to_bits(value), argument, width, where));
}

inline unsigned ballot(unsigned mask, int predicate, CallSite where) {
  return static_cast<unsigned>(warp_operation(WarpOperation::kBallot, mask, predicate != 0 ? 1 : 0, 0, 32, where));
}

template <AtomicInteger T, class Choose>
T atomic_update(T* address, Choose choose) {
  std::atomic_ref<T> cell(*address);
  T old = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old, choose(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace switchyard::emulation

#define SWITCHYARD_EMULATION_HERE ::switchyard::emulation::CallSite where = ::switchyard::emulation::CallSite::here()

// ---- the block

inline void __syncthreads(SWITCHYARD_EMULATION_HERE) { switchyard::emulation::block_barrier(switchyard::emulation::BarrierVote::kNone, 0, where); }
inline int __syncthreads_count(int predicate, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::block_barrier(switchyard::emulation::BarrierVote::kCount, predicate, where);
}
inline int __syncthreads_and(int predicate, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::block_barrier(switchyard::emulation::BarrierVote::kAll, predicate, where);
}
inline int __syncthreads_or(int predicate, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::block_barrier(switchyard::emulation::BarrierVote::kAny, predicate, where);
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { std::atomic_thread_fence(std::memory_order_seq_cst); }

// ---- the warp

inline void __syncwarp(unsigned mask = 0xffffffffu, SWITCHYARD_EMULATION_HERE) {
  switchyard::emulation::warp_operation(switchyard::emulation::WarpOperation::kSync, mask, 0, 0, 32, where);
}
template <switchyard::emulation::Shuffled T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::shuffle(switchyard::emulation::WarpOperation::kShuffleIndex, mask, value, lane, width, where);
}
template <switchyard::emulation::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::shuffle(switchyard::emulation::WarpOperation::kShuffleUp, mask, value, static_cast<int>(distance), width, where);
}
template <switchyard::emulation::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::shuffle(switchyard::emulation::WarpOperation::kShuffleDown, mask, value, static_cast<int>(distance), width, where);
}
template <switchyard::emulation::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SWITCHYARD_EMULATION_HERE) {
  return switchyard::emulation::shuffle(switchyard::emulation::WarpOperation::kShuffleXor, mask, value, lane_mask, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SWITCHYARD_EMULATION_HERE) { return switchyard::emulation::ballot(mask, predicate, where); }
inline int __any_sync(unsigned mask, int predicate, SWITCHYARD_EMULATION_HERE) { return switchyard::emulation::ballot(mask, predicate, where) != 0 ? 1 : 0; }
inline int __all_sync(unsigned mask, int predicate, SWITCHYARD_EMULATION_HERE) { return switchyard::emulation::ballot(mask, predicate, where) == mask ? 1 : 0; }
template <switchyard::emulation::Matched T>
unsigned __match_any_sync(unsigned mask, T value, SWITCHYARD_EMULATION_HERE) {
  using namespace switchyard::emulation;
  return static_cast<unsigned>(warp_operation(WarpOperation::kMatchAny, mask, to_bits(value), 0, 32, where));
}

// ---- atomics

template <switchyard::emulation::AtomicallyAdded T>
T atomicAdd(T* address, T value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <switchyard::emulation::AtomicInteger T>
T atomicMax(T* address, T value) {
  return switchyard::emulation::atomic_update(address, [value](T old) { return old < value ? value : old; });
}
template <switchyard::emulation::AtomicInteger T>
T atomicMin(T* address, T value) {
  return switchyard::emulation::atomic_update(address, [value](T old) { return value < old ? value : old; });
}
template <switchyard::emulation::AtomicInteger T>
T atomicOr(T* address, T value) {
  return switchyard::emulation::atomic_update(address, [value](T old) { return static_cast<T>(old | value); });
}
template <switchyard::emulation::AtomicInteger T>
T atomicExch(T* address, T value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <switchyard::emulation::AtomicInteger T>
T atomicCAS(T* address, T expected, T desired) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, desired, std::memory_order_relaxed);
  return expected;
}

// ---- integers and bits

inline int __popc(unsigned value) { return std::popcount(value); }
inline int __popcll(unsigned long long value) { return std::popcount(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline int __ffs(int value) { return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
template <switchyard::emulation::Compared T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <switchyard::emulation::Compared T>
T max(T a, T b) {
  return a < b ? b : a;
}

// ---- floating point. The fast ones are exact here: compare with tolerances.

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline float rsqrtf(float x) { return __frsqrt_rn(x); }

// ---- loads and stores with a hint

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
