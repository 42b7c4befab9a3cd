#include "kernels/payload.h"

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

// Sixteen sums, added in pairs.
class Lanes {
 public:
  void add_square(int64_t i, float value) { lanes_[i % 16] = std::fma(value, value, lanes_[i % 16]); }
  float total() {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes_[i] += lanes_[i + half];
    }
    return lanes_[0];
  }

 private:
  float lanes_[16] = {};
};

struct Squares {
  double lost = 0, sent = 0;
};

template <class T>
void quantise_block(uint8_t* codes, float& scale, Squares& row, const T* x, int64_t count, PayloadFormat format) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(static_cast<float>(x[i])) & 0x7fffffffu);
  scale = payload_scale(largest, format);
  std::fill_n(codes, count, uint8_t{0});
  if (scale == 0) return;
  const float inverse = 1 / scale;
  Lanes lost, sent;
  for (int64_t i = 0; i < count && !std::isnan(scale); ++i) {
    const float value = static_cast<float>(x[i]), scaled = value * inverse;
    codes[i] = payload_code(scaled, format);
    lost.add_square(i, std::fma(value, inverse, -payload_number(codes[i], format)));
    sent.add_square(i, scaled);
  }
  const double square = static_cast<double>(scale) * static_cast<double>(scale);
  row.lost = std::fma(square, static_cast<double>(lost.total()), row.lost);
  row.sent = std::fma(square, static_cast<double>(sent.total()), row.sent);
}

// As one quiet NaN, whatever made it.
float norm_of(double squares) { return std::isnan(squares) ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(std::sqrt(squares)); }

void check_payload(const Tensor& payload, const Tensor& norms, const Tensor& x, PayloadFormat format) {
  check(format != PayloadFormat::kPlain, "quantise, dequantise: expected a format");
  check_dense(x, x.dtype(), x.rows(), x.columns(), "quantise, dequantise: expected x, y [n, D]");
  check_dense(payload, Dtype::kI32, x.rows(), payload_words(x.columns()), "quantise, dequantise: expected payload [n, payload_words(D)] I32");
  if (norms.exists()) check_dense(norms, Dtype::kF32, x.rows(), 2, "quantise, dequantise: expected norms [n, 2] F32");
}

template <class Word>
void copy_norms(const Tensor& norms, int64_t row, const PayloadRow<Word>& from) {
  if (norms.exists()) std::copy_n(from.norms, 2, norms.row<float>(row));
}

}  // namespace

void ReferenceBackend::quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) {
  check_payload(payload.tensor, norms.tensor, x, format);
  const int64_t columns = x.columns();
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < x.rows(); ++r) {
      const PayloadRow<int32_t> row(payload.tensor.row<int32_t>(r), columns);
      Squares squares;
      for (int64_t block = 0; block < payload_blocks(columns); ++block) {
        const int64_t first = block * kPayloadBlock, count = std::min(kPayloadBlock, columns - first);
        quantise_block(row.codes + first, row.scales[block], squares, x.row<T>(r) + first, count, format);
      }
      std::fill(row.codes + columns, reinterpret_cast<uint8_t*>(row.scales), uint8_t{0});
      row.norms[0] = norm_of(squares.lost);
      row.norms[1] = norm_of(squares.sent);
      copy_norms(norms.tensor, r, row);
    }
  });
}

void ReferenceBackend::dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) {
  check_payload(payload, norms.tensor, y.tensor, format);
  const int64_t columns = y.tensor.columns();
  with_exact(y.tensor.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < y.tensor.rows(); ++r) {
      const PayloadRow<const int32_t> row(payload.row<int32_t>(r), columns);
      for (int64_t i = 0; i < columns; ++i) y.tensor.row<T>(r)[i] = static_cast<T>(payload_number(row.codes[i], format) * row.scales[i / kPayloadBlock]);
      copy_norms(norms.tensor, r, row);
    }
  });
}

}  // namespace switchyard::reference
