// y = x W^T and y = x W, cut into panels of rows. A panel's height depends on the matrix alone; the last rows are a panel
// of some quarters of it and a panel rounded up to a multiple of 16 rows, or one panel rounded up to the whole height where
// the library's order of sums might depend on it.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

// Rows of a panel. Weights that do not fit into a core's cache are read once per panel, so panels of such are taller;
// the vocabulary's are not, because what a panel writes is then large as well.
int64_t panel_rows(const PackedMatrix& w) { return w.out * w.in >= 384 * 1024 && std::max(w.out, w.in) < 8192 ? kRowPanel : kRowPanel / 2; }

constexpr int64_t kPackColumns = 256;  // columns of the packed operand that one task fills

void check_product(const Product& p) {
  check(p.matrix != nullptr && p.matrix->storage.exists(), "multiply: expected a packed matrix");
  const PackedMatrix& w = *p.matrix;
  const int64_t n = p.x.rows();
  check_matrix(p.x, w.dtype, n, w.inner(), "multiply: expected x [n, inner] of the matrix's dtype");
  const Dtype y = p.y.tensor.dtype();
  check(y == w.dtype || y == Dtype::kF32, "multiply: expected y of the matrix's dtype, or exact");
  check_matrix(p.y.tensor, y, n, w.columns(), "multiply: expected y [n, columns]");
  if (p.bias.exists()) check_vector(p.bias, Dtype::kF32, w.columns(), "multiply: expected bias [columns], exact");
  if (p.relu_of.exists()) check_matrix(p.relu_of, w.dtype, n, w.columns(), "multiply: expected relu_of [n, columns] of the matrix's dtype");
}

bool has_epilogue(const Product& p) { return p.bias.exists() || p.relu || p.dropout.rate > 0 || p.relu_of.exists(); }

// Whether what happens to a rounded result gives the same as if it had happened before rounding.
bool epilogue_is_exact(const Product& p) { return !p.bias.exists() && p.dropout.rate <= 0 && (!p.relu_of.exists() || p.relu_of_scale == 1); }

struct PanelScratch {
  PanelScratch(char* base, const Product& p, Dtype dtype, int64_t rows) : walk(base) {
    x = walk.take(rows * p.matrix->inner() * size_of(dtype));
    c = walk.take<float>(rows * p.matrix->columns());
    library = walk.take(0);
  }
  Scratch walk;
  char* x;   // [rows, inner]: where x is not dense, not whole, or of another dtype
  float* c;  // [rows, columns]: where y cannot be written by the library
  char* library;
};

}  // namespace

int64_t CpuBackend::packed_bytes(Dtype dtype, int64_t out, int64_t in, Side side) const {
  check(dtype == Dtype::kF32 || dtype == Dtype::kBF16, "packed_bytes: expected F32 or BF16");
  const Dtype used = engine_.dtype_for(dtype);
  const PackLayout& layout = side == Side::kForward ? engine_.layout(used, in, out) : engine_.layout(used, out, in);
  return round_up(layout.bytes, 4);
}

void CpuBackend::pack(PackedMatrix& packed, const Tensor& w) {
  check(packed.storage.exists() && packed.storage.bytes() >= packed_bytes(packed.dtype, packed.out, packed.in, packed.side), "pack: storage too small");
  check(w.rows() == packed.out && w.columns() == packed.in && (w.dtype() == Dtype::kF32 || w.dtype() == packed.dtype),
        "pack: expected w [out, in], exact or of the packed dtype");
  const Dtype used = engine_.dtype_for(packed.dtype);
  const PackLayout& layout = engine_.layout(used, packed.inner(), packed.columns());
  PackPart part{};
  part.layout = &layout;
  part.packed = packed.storage.data();
  part.source = w.data();
  part.dtype = w.dtype();
  part.stride = w.row_stride();
  part.source_rows = packed.out;
  part.source_rows_are_k = packed.side == Side::kBackward;
  part.round = packed.dtype != used;
  const int64_t piece = round_up(kPackColumns, layout.n_block);
  team_.run_pieces(layout.n, piece, [&](int64_t first, int64_t count, int) {
    PackPart mine = part;
    mine.first_n = first;
    mine.last_n = first + count;
    loops_.pack(mine);
  });
}

void CpuBackend::plan_panels(const Product& p) {
  const PackedMatrix& w = *p.matrix;
  const Dtype used = engine_.dtype_for(w.dtype), y = p.y.tensor.dtype();
  const int64_t n = p.x.rows();
  const bool vary = engine_.rows_may_vary(used, w.inner(), w.columns());
  const bool in_place = y == Dtype::kF32 || (y == used && epilogue_is_exact(p));
  const int64_t height = panel_rows(w);
  int64_t scratch = 0;
  for (int64_t first = 0, rows = 0; first < n; first += rows) {
    rows = vary ? next_rows(n - first, height) : std::min(height, n - first);
    Panel panel{&p, nullptr, first, rows, vary ? round_up(rows, 16) : height, false};
    panel.direct = in_place && !p.y.add && p.y.tensor.contiguous() && panel.padded_rows == rows;
    panel.matmul = &engine_.find({used, panel.direct ? y : Dtype::kF32, panel.padded_rows, w.inner(), w.columns(), false});
    scratch = std::max(scratch, panel.matmul->scratch_bytes());
    panels_.push_back(panel);
  }
  const PanelScratch places(nullptr, p, used, height);
  team_.reserve(places.walk.bytes() + scratch);
}

void CpuBackend::multiply(std::span<const Product> products) {
  panels_.clear();
  for (const Product& p : products) {
    check_product(p);
    plan_panels(p);
  }
  team_.run(static_cast<int64_t>(panels_.size()), [&](int64_t task, int thread) { run_panel(panels_[static_cast<size_t>(task)], thread); });
}

Epilogue CpuBackend::epilogue_of(const Product& p, int64_t first_row, int64_t rows) const {
  Epilogue e{};
  e.y = address(p.y.tensor, first_row);
  e.y_stride = p.y.tensor.row_stride();
  e.y_dtype = p.y.tensor.dtype();
  e.add = p.y.add;
  e.rows = rows;
  e.columns = p.matrix->columns();
  e.bias = p.bias.exists() ? p.bias.get<float>() : nullptr;
  e.relu = p.relu;
  e.draw = draw_of(p.dropout, first_row);
  e.relu_of = p.relu_of.exists() ? address(p.relu_of, first_row) : nullptr;
  e.relu_of_stride = p.relu_of.row_stride();
  e.relu_of_dtype = p.matrix->dtype;
  e.relu_of_scale = static_cast<float>(p.relu_of_scale);
  return e;
}

void CpuBackend::run_panel(const Panel& panel, int thread) {
  const Product& p = *panel.product;
  const PackedMatrix& w = *p.matrix;
  const Dtype used = engine_.dtype_for(w.dtype);
  const PanelScratch places(team_.scratch(thread), p, used, panel_rows(w));
  const void* x = address(p.x, panel.first_row);
  if (!p.x.contiguous() || used != w.dtype || panel.padded_rows != panel.rows) {
    const int64_t row_bytes = w.inner() * size_of(used);
    for (int64_t r = 0; r < panel.rows; ++r) loops_.convert(places.x + r * row_bytes, used, address(p.x, panel.first_row + r), w.dtype, w.inner(), false);
    std::memset(places.x + panel.rows * row_bytes, 0, static_cast<size_t>((panel.padded_rows - panel.rows) * row_bytes));
    x = places.x;
  }
  Epilogue e = epilogue_of(p, panel.first_row, panel.rows);
  void* c = panel.direct ? e.y : places.c;
  panel.matmul->run(thread, x, w.storage.data(), c, places.library);
  if (panel.direct && !has_epilogue(p)) return;
  e.c = c;
  e.c_stride = panel.direct ? e.y_stride : e.columns;
  e.c_dtype = panel.direct ? e.y_dtype : Dtype::kF32;
  loops_.epilogue(e);
}

}  // namespace switchyard::cpu
