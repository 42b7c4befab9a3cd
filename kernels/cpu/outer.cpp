// dW = dy^T x. x is packed once for all panels as the library's second operand; a panel is a run of rows of dW, whose
// columns of dy are transposed into scratch. Rows beyond an entry's count are zeros up to a multiple of 32.
//
// Entries that share their dw join it panel by panel, in list order, so that a panel stays in cache for all of them.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kOuterRows = 128;                 // of dW in a panel
constexpr int64_t kChunkBytes = 2048;               // of a column of x and dy in one call of the library, at most
constexpr int64_t kSharedBytes = int64_t{8} << 20;  // packed x of the groups that run together, if there are several
constexpr int64_t kPackColumns = 256;

void check_outer(const OuterProduct& p) {
  check_activation(p.dy, "multiply_outer: expected F32 or BF16");
  check_matrix(p.x, p.dy.dtype(), p.dy.rows(), p.x.columns(), "multiply_outer: expected dy and x of one dtype with the same number of rows");
  check_dense(p.dw.tensor, Dtype::kF32, p.dy.columns(), p.x.columns(), "multiply_outer: expected dw [out, in], exact");
}

// Rows of x and dy in one call of the library, by the dtype in which they are multiplied.
int64_t chunk_rows(Dtype dtype) { return kChunkBytes / size_of(dtype); }

// Rows as the library sees them. Strides of whole pages are avoided: their lines would share few places in the cache.
int64_t padded(int64_t rows) {
  const int64_t whole = round_up(rows, 32);
  return whole % 1024 == 0 ? whole + 32 : whole;
}

}  // namespace

void CpuBackend::multiply_outer(std::span<const OuterProduct> products) {
  std::vector<OuterGroup> groups;
  for (const OuterProduct& p : products) {
    check_outer(p);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const OuterGroup& g) { return g.dw.tensor.data() == p.dw.tensor.data(); });
    if (same != groups.end()) {
      same->entries.push_back({&p, 0, 0});
    } else if (p.dw.tensor.elements() > 0) {
      groups.push_back({p.dw, {{&p, 0, 0}}});
    }
  }
  size_t first = 0;
  int64_t bytes = 0;
  chunks_.clear();
  for (size_t i = 0; i < groups.size(); ++i) {
    if (bytes > kSharedBytes) {
      run_outer(std::span(groups).subspan(first, i - first));
      first = i;
      bytes = 0;
      chunks_.clear();
    }
    for (OuterEntry& entry : groups[i].entries) {
      const OuterProduct& p = *entry.product;
      entry.first_chunk = static_cast<int64_t>(chunks_.size());
      const Dtype used = engine_.dtype_for(p.x.dtype());
      for (int64_t row = 0, rows = 0; row < p.x.rows(); row += rows) {
        rows = next_rows(p.x.rows() - row, chunk_rows(used));
        const PackLayout& layout = engine_.layout(used, padded(rows), p.x.columns());
        chunks_.push_back({&p, &layout, row, rows, bytes});
        bytes += round_up(layout.bytes, 64);
      }
      entry.chunks = static_cast<int64_t>(chunks_.size()) - entry.first_chunk;
    }
  }
  run_outer(std::span(groups).subspan(first));
}

void CpuBackend::run_outer(std::span<const OuterGroup> groups) {
  int64_t shared = 0, scratch = 0;
  for (const OuterChunk& c : chunks_) {
    shared = std::max(shared, c.offset + c.layout->bytes);
    const int64_t out = c.product->dy.columns(), k = c.layout->k;
    for (const int64_t m : {std::min(out, kOuterRows), out % kOuterRows}) {
      if (m == 0) continue;
      for (const bool add : {false, true}) scratch = std::max(scratch, engine_.find({c.layout->dtype, Dtype::kF32, m, k, c.layout->n, add}).scratch_bytes());
    }
  }
  grow(shared_, shared);
  team_.reserve(kOuterRows * (kChunkBytes + 64 * size_of(Dtype::kF32)) + scratch);
  int64_t pieces = 0;
  for (const OuterChunk& c : chunks_) pieces = std::max(pieces, divide_up(c.layout->n, kPackColumns));
  const auto chunks = static_cast<int64_t>(chunks_.size());
  team_.run(chunks * pieces, [&](int64_t task, int) {
    const OuterChunk& c = chunks_[static_cast<size_t>(task / pieces)];
    const int64_t first = task % pieces * kPackColumns;
    if (first >= c.layout->n) return;
    const Tensor& x = c.product->x;
    loops_.pack({c.layout, static_cast<char*>(shared_.data()) + c.offset, address(x, c.first_row), x.dtype(), x.row_stride(), c.rows, true, false, first,
                 std::min(c.layout->n, first + kPackColumns)});
  });
  int64_t panels = 0;
  for (const OuterGroup& g : groups) panels = std::max(panels, divide_up(g.dw.tensor.rows(), kOuterRows));
  team_.run(static_cast<int64_t>(groups.size()) * panels, [&](int64_t task, int thread) {
    const OuterGroup& group = groups[static_cast<size_t>(task / panels)];
    const int64_t first = task % panels * kOuterRows;
    if (first < group.dw.tensor.rows()) outer_panel(group, first, std::min(kOuterRows, group.dw.tensor.rows() - first), thread);
  });
}

void CpuBackend::outer_panel(const OuterGroup& group, int64_t first, int64_t rows, int thread) {
  const Tensor dw = group.dw.tensor.slice_rows(first, rows);
  bool started = true;  // dw holds a sum to which the next term is added
  for (const OuterEntry& entry : group.entries) {
    const OuterProduct& p = *entry.product;
    started = started && p.dw.add;
    for (int64_t i = 0; i < entry.chunks; ++i) {
      const OuterChunk& c = chunks_[static_cast<size_t>(entry.first_chunk + i)];
      Scratch walk(team_.scratch(thread));
      char* transposed = walk.take(rows * c.layout->k * size_of(c.layout->dtype));
      loops_.transpose({transposed, c.layout->dtype, address(p.dy, c.first_row, first), p.dy.dtype(), p.dy.row_stride(), c.rows, rows, c.layout->k});
      Matmul& product = engine_.find({c.layout->dtype, Dtype::kF32, rows, c.layout->k, c.layout->n, started});
      product.run(thread, transposed, static_cast<const char*>(shared_.data()) + c.offset, dw.data(), walk.take(0));
      started = true;
    }
  }
  if (!started) std::memset(dw.data(), 0, static_cast<size_t>(dw.bytes()));
}

}  // namespace switchyard::cpu
