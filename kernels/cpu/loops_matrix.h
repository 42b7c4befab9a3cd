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

// Source rows are rows of B: those from k on, as many as are interleaved, become one row of a block from column n on.
template <class Stored, class Source>
inline void pack_straight(const PackPart& part, const PackLayout& layout, Stored* to, int64_t k, int64_t n) {
  const Source* source = at<Source>(part.source, k * part.stride + n);
  with_count(layout.n - n, [&](auto count) {
    if (layout.interleave == 2) {
      const Ints even = k < part.source_rows ? half_bits(source, count) : broadcast_int(0);
      const Ints odd = k + 1 < part.source_rows ? half_bits(source + part.stride, count) : broadcast_int(0);
      store_words(to, even | shift_left<16>(odd));
      return;
    }
    const Vec value = k < part.source_rows ? load_rounded(source, count, part.round) : zeros();
    if (layout.blocked) {
      store(to, value, Full{});
    } else {
      store(to, value, count);
    }
  });
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

// Source rows are columns of B: sixteen of them from n on become columns of sixteen rows of a block, from k on.
template <class Stored, class Source>
inline void pack_transposed(const PackPart& part, const PackLayout& layout, Stored* to, int64_t k, int64_t n, int64_t row_elements) {
  const bool interleaved = layout.interleave == 2;
  Ints rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    const bool real = n + i < part.source_rows;
    rows[i] = real ? words_of_row(at<Source>(part.source, (n + i) * part.stride + k), layout.k - k, interleaved, part.round) : broadcast_int(0);
  }
  transpose(rows);
  for (int w = 0; w < kLanes && k + w * layout.interleave < layout.padded_k(); ++w) {
    if (interleaved) {
      store_words(to + w * row_elements, rows[w]);
    } else if (layout.blocked) {
      store(to + w * row_elements, as_floats(rows[w]), Full{});
    } else {
      with_count(layout.n - n, [&](auto count) { store(to + w * row_elements, as_floats(rows[w]), count); });
    }
  }
}

// Block by block; inside a block along k, so that what is written follows on. The arguments are copied so that the
// compiler knows that no store changes them.
template <class Stored, class Source>
inline void pack_typed(const PackPart part) {
  const PackLayout layout = *part.layout;
  const int64_t row_elements = layout.blocked ? layout.n_block * layout.interleave : layout.n;
  const int64_t step = part.source_rows_are_k ? layout.interleave : kLanes * layout.interleave;
  for (int64_t block = part.first_n; block < part.last_n; block += layout.n_block) {
    Stored* first = at<Stored>(part.packed, layout.blocked ? block * layout.padded_k() : block);
    const int64_t columns = layout.blocked || block + layout.n_block < layout.n ? layout.n_block : layout.n - block;
    for (int64_t k = 0; k < layout.padded_k(); k += step) {
      for (int64_t n = 0; n < columns; n += kLanes) {
        Stored* to = first + k / layout.interleave * row_elements + n * layout.interleave;
        if (part.source_rows_are_k) {
          pack_straight<Stored, Source>(part, layout, to, k, block + n);
        } else {
          pack_transposed<Stored, Source>(part, layout, to, k, block + n, row_elements);
        }
      }
    }
  }
}

inline void pack(const PackPart& part) {
  with_type(part.layout->dtype, [&]<class Stored>() { with_type(part.dtype, [&]<class Source>() { pack_typed<Stored, Source>(part); }); });
}

// Sixteen words, from column c on: values of row r, or pairs of rows r and r + 1.
template <class X, class Count>
inline Ints words_of_columns(const TransposeRows& args, int64_t r, int64_t c, Count count, bool pairs) {
  const X* x = at<X>(args.x, r * args.stride + c);
  if (!pairs) return r < args.rows ? as_ints(load(x, count)) : broadcast_int(0);
  const Ints even = r < args.rows ? half_bits(x, count) : broadcast_int(0);
  const Ints odd = r + 1 < args.rows ? half_bits(x + args.stride, count) : broadcast_int(0);
  return even | shift_left<16>(odd);
}

template <class Y, class X>
inline void transpose_typed(const TransposeRows args) {
  constexpr bool kPairs = sizeof(Y) == 2;
  constexpr int64_t kEach = kPairs ? 2 : 1;
  for (int64_t r = 0; r < args.padded_rows; r += kLanes * kEach) {
    for (int64_t c = 0; c < args.columns; c += kLanes) {
      Ints words[kLanes];
      const bool whole = r + kLanes * kEach <= args.rows && c + kLanes <= args.columns;
      if (whole) {
        TransposeRows inside = args;
        inside.rows = INT64_MAX;
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) words[i] = words_of_columns<X>(inside, r + i * kEach, c, Full{}, kPairs);
      } else {
        const int64_t left = args.columns - c;
        for (int i = 0; i < kLanes; ++i) {
          with_count(left, [&](auto count) { words[i] = words_of_columns<X>(args, r + i * kEach, c, count, kPairs); });
        }
      }
      transpose(words);
      Y* y = at<Y>(args.y, c * args.padded_rows + r);
      if (whole) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store_words(y + i * args.padded_rows, words[i]);
      } else {
        for (int i = 0; i < kLanes && c + i < args.columns; ++i) store_words(y + i * args.padded_rows, words[i]);
      }
    }
  }
}

inline void transpose(const TransposeRows& args) {
  with_type(args.y_dtype, [&]<class Y>() { with_type(args.x_dtype, [&]<class X>() { transpose_typed<Y, X>(args); }); });
}

}  // namespace switchyard::SWITCHYARD_ISA
