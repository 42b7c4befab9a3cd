// A warp for each row, half a warp for a block of 64 elements: lane i of sixteen keeps the i-th of the sixteen sums of
// kernels/payload.h.
#include "kernels/payload.h"

#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

constexpr int kLanes = 16;
static_assert(kPayloadBlock % kLanes == 0 && kWarp == 2 * kLanes);

// Of one block; every lane of its half has it. lost, sent: sums of squares in units of the scale.
struct BlockSums {
  float scale, lost, sent;
};

// In pairs (i, i + 8), (i, i + 4), (i, i + 2), (i, i + 1).
__device__ float sum_of_lanes(float x) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) x = __fadd_rn(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

// Both halves of the warp call it, each with its block; one beyond the row's end has the scale 0 and writes nothing.
template <PayloadFormat format, class T>
__device__ BlockSums quantise_block(const PayloadRow<int32_t>& row, const T* x, int64_t columns, int64_t block) {
  const int64_t first = block * kPayloadBlock + lane_number() % kLanes;
  const int64_t end = (block + 1) * kPayloadBlock < columns ? (block + 1) * kPayloadBlock : columns;
  float value[kPayloadBlock / kLanes] = {};
  uint32_t largest = 0;
  for (int k = 0; k < kPayloadBlock / kLanes; ++k) {
    if (first + k * kLanes < end) value[k] = wide(x[first + k * kLanes]);
    largest = max(largest, std::bit_cast<uint32_t>(value[k]) & 0x7fffffffu);
  }
  for (int distance = kLanes / 2; distance > 0; distance /= 2) largest = max(largest, __shfl_xor_sync(kFullMask, largest, distance));
  BlockSums sums{payload_scale(largest, format), 0, 0};
  const float inverse = sums.scale > 0 ? __fdiv_rn(1.0f, sums.scale) : 0.0f;  // not of NaN
  for (int k = 0; k < kPayloadBlock / kLanes; ++k) {
    if (first + k * kLanes >= end) break;
    uint8_t code = 0;
    if (sums.scale > 0) {
      const float scaled = __fmul_rn(value[k], inverse);
      code = payload_code(scaled, format);
      const float rest = __fmaf_rn(value[k], inverse, -payload_number(code, format));
      sums.lost = __fmaf_rn(rest, rest, sums.lost);
      sums.sent = __fmaf_rn(scaled, scaled, sums.sent);
    }
    row.codes[first + k * kLanes] = code;
  }
  if (lane_number() % kLanes == 0 && block < payload_blocks(columns)) row.scales[block] = sums.scale;
  sums.lost = sum_of_lanes(sums.lost);
  sums.sent = sum_of_lanes(sums.sent);
  return sums;
}

// As one quiet NaN, whatever made it.
__device__ float norm_of(double squares) { return squares >= 0 ? static_cast<float>(sqrt(squares)) : std::numeric_limits<float>::quiet_NaN(); }

// norms may be null.
template <PayloadFormat format, class T>
__global__ void __launch_bounds__(kBlock) quantise_rows(int32_t* payload, float* norms, const T* x, int64_t rows, int64_t columns) {
  const int64_t blocks = payload_blocks(columns);
  for (int64_t r = warp_number(); r < rows; r += warps_of_grid()) {
    const PayloadRow<int32_t> row(payload + r * payload_words(columns), columns);
    double lost = 0, sent = 0;
    for (int64_t block = 0; block < blocks; block += 2) {
      const BlockSums own = quantise_block<format>(row, x + r * columns, columns, block + lane_number() / kLanes);
      for (int of = 0; of < 2; ++of) {  // in order; a scale of 0 adds nothing
        const double scale = static_cast<double>(__shfl_sync(kFullMask, own.scale, of * kLanes));
        lost = fma(scale * scale, static_cast<double>(__shfl_sync(kFullMask, own.lost, of * kLanes)), lost);
        sent = fma(scale * scale, static_cast<double>(__shfl_sync(kFullMask, own.sent, of * kLanes)), sent);
      }
    }
    if (columns + lane_number() < (columns + 3) / 4 * 4) row.codes[columns + lane_number()] = 0;
    if (lane_number() != 0) continue;
    row.norms[0] = norm_of(lost);
    row.norms[1] = norm_of(sent);
    if (norms == nullptr) continue;
    norms[2 * r] = row.norms[0];
    norms[2 * r + 1] = row.norms[1];
  }
}

// NaN as every backend writes it.
__device__ void store_value(float* to, float value) { *to = value == value ? value : std::numeric_limits<float>::quiet_NaN(); }
__device__ void store_value(__nv_bfloat16* to, float value) { *to = value == value ? __float2bfloat16_rn(value) : __ushort_as_bfloat16(0x7fc0); }

template <PayloadFormat format, class T>
__global__ void __launch_bounds__(kBlock) dequantise_elements(T* y, const int32_t* payload, int64_t rows, int64_t columns) {
  for (int64_t i = thread_number(); i < rows * columns; i += threads_of_grid()) {
    const int64_t r = i / columns, c = i - r * columns;
    const PayloadRow<const int32_t> row(payload + r * payload_words(columns), columns);
    store_value(y + i, __fmul_rn(payload_number(row.codes[c], format), row.scales[c / kPayloadBlock]));
  }
}

__global__ void __launch_bounds__(kBlock) copy_norms(float* norms, const int32_t* payload, int64_t rows, int64_t columns) {
  for (int64_t i = thread_number(); i < 2 * rows; i += threads_of_grid()) {
    norms[i] = PayloadRow<const int32_t>(payload + i / 2 * payload_words(columns), columns).norms[i % 2];
  }
}

void check_payload(const Tensor& payload, const Tensor& norms, const Tensor& x, PayloadFormat format) {
  check(format != PayloadFormat::kPlain, "quantise, dequantise: expected a format");
  check_dense(x, x.dtype(), x.rows(), x.columns(), "quantise, dequantise: expected x, y [n, D]");
  check_dense(payload, Dtype::kI32, x.rows(), payload_words(x.columns()), "quantise, dequantise: expected payload [n, payload_words(D)] I32");
  if (norms.exists()) check_dense(norms, Dtype::kF32, x.rows(), 2, "quantise, dequantise: expected norms [n, 2] F32");
}

template <PayloadFormat format>
struct Format {
  static constexpr PayloadFormat value = format;
};

// Calls visit(T{}, Format<format>{}).
template <class Visitor>
void with_payload(Dtype dtype, PayloadFormat format, Visitor visit) {
  with_activation(dtype, [&](auto type) {
    if (format == PayloadFormat::kFp8) {
      visit(type, Format<PayloadFormat::kFp8>{});
    } else {
      visit(type, Format<PayloadFormat::kInt8>{});
    }
  });
}

}  // namespace

void CudaBackend::quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) {
  check_payload(payload.tensor, norms.tensor, x, format);
  if (x.rows() == 0) return;
  with_payload(x.dtype(), format, [&](auto type, auto constant) {
    using T = decltype(type);
    enqueue(&quantise_rows<decltype(constant)::value, T>, {blocks_for_rows(x.rows()), kBlock, 0, stream()}, data_of<int32_t>(payload.tensor),
            data_of<float>(norms.tensor), data_of<T>(x), x.rows(), x.columns());
  });
}

void CudaBackend::dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) {
  const Tensor& to = y.tensor;
  check_payload(payload, norms.tensor, to, format);
  if (to.rows() == 0) return;
  with_payload(to.dtype(), format, [&](auto type, auto constant) {
    using T = decltype(type);
    enqueue(&dequantise_elements<decltype(constant)::value, T>, {blocks_for_items(to.elements()), kBlock, 0, stream()}, data_of<T>(to),
            data_of<int32_t>(payload), to.rows(), to.columns());
  });
  if (!norms.tensor.exists()) return;
  enqueue(&copy_norms, {blocks_for_items(2 * to.rows()), kBlock, 0, stream()}, data_of<float>(norms.tensor), data_of<int32_t>(payload), to.rows(),
          to.columns());
}

}  // namespace switchyard::cuda
