// The gradient of a table: tokens are sorted by their row, a byte of the row at a time, which keeps the order of tokens with
// the same row; then each row is the sum of its tokens' gradients.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/places.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

constexpr int kDigitBits = 8;
constexpr int64_t kDigits = int64_t{1} << kDigitBits;
constexpr int64_t kShortList = 32;  // tokens that one warp adds up alone; longer lists are a block's

struct EmbedShape {
  int64_t tokens, width, sequence, first_position;
};

template <class T>
__global__ void __launch_bounds__(kBlock) embed_rows(T* x, const T* table, const T* positions, const int32_t* tokens, EmbedShape s) {
  for (int64_t t = warp_number(); t < s.tokens; t += warps_of_grid()) {
    const T* from = table + tokens[t] * s.width;
    const T* position = positions == nullptr ? nullptr : positions + (s.first_position + t % s.sequence) * s.width;
    for_quads_of_row(s.width, [&](int64_t c, int64_t left) {
      Quad quad = load_quad(from + c, left);
      if (position != nullptr) add_quad(quad, load_quad(position + c, left));
      store_quad(x + t * s.width + c, left, quad);
    });
  }
}

// order = earlier[by_digit], or 0, 1, 2 .. without `earlier`; row: the table's row of each; digit: the byte of it at `shift`.
__global__ void __launch_bounds__(kBlock)
    reorder(int32_t* order, int32_t* row, int32_t* digit, const int32_t* earlier, const int32_t* by_digit, const int32_t* tokens, int2 items_and_shift) {
  for (int64_t i = thread_number(); i < items_and_shift.x; i += threads_of_grid()) {
    const int32_t token = earlier == nullptr ? static_cast<int32_t>(i) : earlier[by_digit[i]];
    order[i] = token;
    row[i] = tokens[token];
    digit[i] = tokens[token] >> items_and_shift.y & static_cast<int32_t>(kDigits - 1);
  }
}

// first[r]: how many of the sorted rows lie below r, for r = 0 .. rows.
__global__ void __launch_bounds__(kBlock) find_rows(int32_t* first, const int32_t* sorted, int64_t tokens, int64_t rows) {
  for (int64_t r = thread_number(); r <= rows; r += threads_of_grid()) {
    int64_t low = 0, high = tokens;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sorted[middle] < r) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    first[r] = static_cast<int32_t>(low);
  }
}

// Lists of tokens, one for each row of a gradient: token(row, i) for begin(row) <= i < end(row).
struct TokensOfRow {
  const int32_t* first;
  const int32_t* order;
  __device__ int64_t begin(int64_t row) const { return first[row]; }
  __device__ int64_t end(int64_t row) const { return first[row + 1]; }
  __device__ int64_t token(int64_t, int64_t i) const { return order[i]; }
};
struct TokensAtPosition {
  int64_t tokens, sequence;
  __device__ int64_t begin(int64_t) const { return 0; }
  __device__ int64_t end(int64_t row) const { return row < sequence && row < tokens ? divide_up(tokens - row, sequence) : 0; }
  __device__ int64_t token(int64_t row, int64_t i) const { return row + i * sequence; }
};

struct SumShape {
  int64_t rows, width;
  bool add;
};

// Of part `part` of the parts into which the list of a row is cut.
template <class T, class Lists>
__device__ Quad sum_of_list(const T* dx, const Lists& lists, int64_t row, int64_t column, int64_t width, int part, int parts) {
  const int64_t begin = lists.begin(row), end = lists.end(row), share = divide_up(end - begin, parts);
  const int64_t first = begin + part * share, last = min(first + share, end);
  Quad total{};
  for (int64_t i = first; i < last; ++i) add_quad(total, load_quad(dx + lists.token(row, i) * width + column, width - column));
  return total;
}

// kWarps rows at a time: first each warp's own if it is short, then the long ones by all warps together.
template <class T, class Lists>
__device__ void sum_lists(float* to, const T* dx, const Lists& lists, const SumShape& s) {
  const int warp = warp_of_block();
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * kWarps; base < s.rows; base += static_cast<int64_t>(gridDim.x) * kWarps) {
    const int64_t own = base + warp, length = own < s.rows ? lists.end(own) - lists.begin(own) : 0;
    if (own < s.rows && length <= kShortList && !(s.add && length == 0)) {
      for_quads_of_row(s.width,
                       [&](int64_t c, int64_t left) { store_quad(to + own * s.width + c, left, sum_of_list(dx, lists, own, c, s.width, 0, 1), s.add); });
    }
    for (int64_t row = base; row < base + kWarps && row < s.rows; ++row) {
      if (lists.end(row) - lists.begin(row) <= kShortList) continue;
      for (int64_t chunk = 0; chunk < s.width; chunk += kWarpColumns) {
        const int64_t c = chunk + first_column();
        const Quad total = sum_over_warps(sum_of_list(dx, lists, row, c, s.width, warp, kWarps));
        if (warp == 0) store_quad(to + row * s.width + c, s.width - c, total, s.add);
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock) sum_tokens_of_rows(float* dtable, const T* dx, const int32_t* first, const int32_t* order, SumShape s) {
  sum_lists(dtable, dx, TokensOfRow{first, order}, s);
}

template <class T>
__global__ void __launch_bounds__(kBlock) sum_positions(float* dpositions, const T* dx, TokensAtPosition lists, SumShape s) {
  sum_lists(dpositions, dx, lists, s);
}

// Tokens in the order of their rows.
struct Sorted {
  const int32_t* order;
  const int32_t* row;
  int32_t* first;  // [rows + 1], to be found
};

Sorted sort_by_row(Workspace& workspace, cudaStream_t stream, const int32_t* tokens, int64_t n, int64_t rows) {
  Pieces pieces;
  const int64_t largest = std::max<int64_t>(rows - 1, 0), keys = std::min(largest + 1, kDigits);
  const Placing placing(tiling_of(n, n), keys, {n}, pieces);
  const auto first = pieces.take<int32_t>(rows + 1);
  const Piece<int32_t> orders[] = {pieces.take<int32_t>(n), pieces.take<int32_t>(n)};
  const auto row = pieces.take<int32_t>(n), digit = pieces.take<int32_t>(n), by_digit = pieces.take<int32_t>(n), kept = pieces.take<int32_t>(keys);
  void* memory = workspace.at_least(pieces.bytes());
  const int32_t* earlier = nullptr;
  const auto arrange = [&](int pass) {
    int32_t* order = orders[pass % 2].in(memory);
    enqueue(&reorder, {blocks_for_items(n), kBlock, 0, stream}, order, row.in(memory), digit.in(memory), earlier, by_digit.in(memory), tokens,
            make_int2(static_cast<int>(n), pass * kDigitBits % 32));
    earlier = order;
  };
  int pass = 0;
  for (; pass == 0 || largest >> (pass * kDigitBits) > 0; ++pass) {
    arrange(pass);
    placing.run(stream, memory, digit.in(memory), {kept.in(memory), by_digit.in(memory)});
  }
  arrange(pass);
  return {earlier, row.in(memory), first.in(memory)};
}

}  // namespace

void CudaBackend::embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) {
  const int64_t n = tokens.elements(), width = table.columns();
  check(sequence > 0 && first_position >= 0, "embed: expected a positive sequence length and a position from 0");
  check_vector(tokens, Dtype::kI32, n, "embed: expected tokens [T] I32");
  check_dense(table, x.tensor.dtype(), table.rows(), width, "embed: expected a table [N, D] of x's dtype");
  check_dense(x.tensor, table.dtype(), n, width, "embed: expected x [T, D]");
  if (positions.exists()) {
    check_dense(positions, table.dtype(), positions.rows(), width, "embed: expected positions [P, D] of x's dtype");
    check(first_position + std::min(sequence, n) <= positions.rows(), "embed: fewer positions than the sequence needs");
  }
  with_activation(table.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&embed_rows<T>, {blocks_for_rows(n), kBlock, 0, stream()}, data_of<T>(x.tensor), data_of<T>(table), data_of<T>(positions), data_of<int32_t>(tokens),
            EmbedShape{n, width, sequence, first_position});
  });
}

void CudaBackend::embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) {
  const int64_t n = tokens.elements(), width = dx.columns(), rows = dtable.tensor.rows();
  check(sequence > 0, "embed_backward: expected a positive sequence length");
  check_vector(tokens, Dtype::kI32, n, "embed_backward: expected tokens [T] I32");
  check_dense(dx, dx.dtype(), n, width, "embed_backward: expected dx [T, D]");
  check_dense(dtable.tensor, Dtype::kF32, rows, width, "embed_backward: expected dtable [N, D], exact");
  const int64_t places = dpositions.tensor.exists() ? dpositions.tensor.rows() : 0;
  if (dpositions.tensor.exists()) {
    check_dense(dpositions.tensor, Dtype::kF32, places, width, "embed_backward: expected dpositions [>= sequence, D], exact");
    check(places >= std::min(sequence, n), "embed_backward: fewer positions than the sequence needs");
  }
  const Sorted sorted = sort_by_row(workspace_, stream(), data_of<int32_t>(tokens), n, rows);
  enqueue(&find_rows, {blocks_for_items(rows), kBlock, 0, stream()}, sorted.first, sorted.row, n, rows);
  with_activation(dx.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&sum_tokens_of_rows<T>, {blocks_for_rows(rows), kBlock, 0, stream()}, data_of<float>(dtable.tensor), data_of<T>(dx), sorted.first, sorted.order,
            SumShape{rows, width, dtable.add});
  });
  if (places == 0) return;
  with_activation(dx.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&sum_positions<T>, {blocks_for_rows(places), kBlock, 0, stream()}, data_of<float>(dpositions.tensor), data_of<T>(dx), TokensAtPosition{n, sequence},
            SumShape{places, width, dpositions.add});
  });
}

}  // namespace switchyard::cuda
