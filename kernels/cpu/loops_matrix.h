// Loops that bring matrices into the layouts of the matrix library. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_elementwise.h"

namespace switchyard::SWITCHYARD_ISA {

// The BF16 bits of up to 16 values.
template <class Count>
inline Ints half_bits(const float* p, Count count) {
  return bf16_bits(load(p, count));
}
inline Ints half_bits(const BFloat16* p, Full) { return load_halves(reinterpret_cast<const uint16_t*>(p)); }
inline Ints half_bits(const BFloat16* p, int count) {
  uint16_t padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return load_halves(padded);
}

template <class Source, class Count>
inline Vec load_rounded(const Source* p, Count count, bool round) {
  return round ? from_bf16_bits(half_bits(p, count)) : load(p, count);
}

// Calls f with Full{} or with the number of lanes that there are: none, where `lanes` is not positive.
template <class F>
inline void with_count(int64_t lanes, F f) {
  if (lanes >= kLanes) {
    f(Full{});
  } else {
    f(lanes > 0 ? static_cast<int>(lanes) : 0);
  }
}

// Source rows are rows of B. `rest` lanes of the row exist in the operand, from column n on.
template <class Stored, class Source>
inline void pack_straight(const PackPart& part, Stored* block, int64_t n, int64_t row_elements) {
  const PackLayout& layout = *part.layout;
  const bool interleaved = layout.interleave == 2;
  const Source* source = at<Source>(part.source, n);
  for (int64_t k = 0; k < layout.padded_k(); k += layout.interleave) {
    Stored* to = block + k / layout.interleave * row_elements;
    with_count(layout.n - n, [&](auto count) {
      if (interleaved) {
        const Ints even = k < part.source_rows ? half_bits(source + k * part.stride, count) : broadcast_int(0);
        const Ints odd = k + 1 < part.source_rows ? half_bits(source + (k + 1) * part.stride, count) : broadcast_int(0);
        store_words(to, even | shift_left<16>(odd));
      } else {
        const Vec value = k < part.source_rows ? load_rounded(source + k * part.stride, count, part.round) : zeros();
        if (layout.blocked) {
          store(to, value, Full{});
        } else {
          store(to, value, count);
        }
      }
    });
  }
}

// Sixteen words from k on: values, or pairs of BF16.
template <class Source>
inline Ints words_of_row(const Source* row, int64_t lanes, bool interleaved, bool round) {
  if (!interleaved) {
    Ints result = broadcast_int(0);
    if (lanes > 0) with_count(lanes, [&](auto count) { result = as_ints(load_rounded(row, count, round)); });
    return result;
  }
  if constexpr (sizeof(Source) == 2) {
    if (lanes >= 2 * kLanes) return load_words(row);
  }
  uint16_t halves[2 * kLanes] = {};
  for (int part = 0; part < 2; ++part) {
    const int64_t left = lanes - part * kLanes;
    if (left > 0) with_count(left, [&](auto count) { store_halves(halves + part * kLanes, half_bits(row + part * kLanes, count)); });
  }
  return load_words(halves);
}

// Source rows are columns of B: sixteen of them from n on become columns of the operand.
template <class Stored, class Source>
inline void pack_transposed(const PackPart& part, Stored* block, int64_t n, int64_t row_elements) {
  const PackLayout& layout = *part.layout;
  const bool interleaved = layout.interleave == 2;
  const int64_t step = kLanes * layout.interleave;
  for (int64_t k = 0; k < layout.padded_k(); k += step) {
    Ints rows[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const bool real = n + i < part.source_rows;
      rows[i] = real ? words_of_row(at<Source>(part.source, (n + i) * part.stride + k), layout.k - k, interleaved, part.round) : broadcast_int(0);
    }
    transpose(rows);
    for (int w = 0; w < kLanes && k + w * layout.interleave < layout.padded_k(); ++w) {
      Stored* to = block + (k / layout.interleave + w) * row_elements;
      if (interleaved) {
        store_words(to, rows[w]);
      } else if (layout.blocked) {
        store(to, as_floats(rows[w]), Full{});
      } else {
        with_count(layout.n - n, [&](auto count) { store(to, as_floats(rows[w]), count); });
      }
    }
  }
}

template <class Stored, class Source>
inline void pack_typed(const PackPart& part) {
  const PackLayout& layout = *part.layout;
  const int64_t last = layout.blocked ? (part.last_n + layout.n_block - 1) / layout.n_block * layout.n_block : part.last_n;
  for (int64_t n = part.first_n; n < last; n += kLanes) {
    const int64_t block = n / layout.n_block * layout.n_block, inside = n - block;
    const int64_t row_elements = layout.blocked ? layout.n_block * layout.interleave : layout.n;
    Stored* to = at<Stored>(part.packed, layout.blocked ? block * layout.padded_k() + inside * layout.interleave : n);
    if (part.source_rows_are_k) {
      pack_straight<Stored, Source>(part, to, n, row_elements);
    } else {
      pack_transposed<Stored, Source>(part, to, n, row_elements);
    }
  }
}

inline void pack(const PackPart& part) {
  with_type(part.layout->dtype, [&]<class Stored>() { with_type(part.dtype, [&]<class Source>() { pack_typed<Stored, Source>(part); }); });
}

template <class X>
inline Ints words_of_column_rows(const TransposeRows& args, int64_t r, int64_t c, bool pairs) {
  Ints result = broadcast_int(0);
  with_count(args.columns - c, [&](auto count) {
    if (!pairs) {
      if (r < args.rows) result = as_ints(load(at<X>(args.x, r * args.stride + c), count));
      return;
    }
    if (r < args.rows) result = half_bits(at<X>(args.x, r * args.stride + c), count);
    if (r + 1 < args.rows) result = result | shift_left<16>(half_bits(at<X>(args.x, (r + 1) * args.stride + c), count));
  });
  return result;
}

inline void transpose(const TransposeRows& args) {
  const bool pairs = args.y_dtype == Dtype::kBF16;
  const int64_t each = pairs ? 2 : 1;
  with_type(args.y_dtype, [&]<class Y>() {
    with_type(args.x_dtype, [&]<class X>() {
      for (int64_t c = 0; c < args.columns; c += kLanes) {
        const int64_t columns = args.columns - c < kLanes ? args.columns - c : kLanes;
        for (int64_t r = 0; r < args.padded_rows; r += kLanes * each) {
          Ints rows[kLanes];
          for (int i = 0; i < kLanes; ++i) rows[i] = words_of_column_rows<X>(args, r + i * each, c, pairs);
          transpose(rows);
          for (int64_t i = 0; i < columns; ++i) store_words(at<Y>(args.y, (c + i) * args.padded_rows + r), rows[i]);
        }
      }
    });
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
