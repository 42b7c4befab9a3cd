// The vectorised loops, as a table of plain functions. They are compiled twice, for x86-64-v3 and x86-64-v4, with the
// same bits, and the backend takes one table at its start. Each works on what one thread was given; nothing here
// checks, allocates or throws. Pointers are to dense rows unless a stride (in elements) is named.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/payload.h"

namespace switchyard::cpu {

// Dropout and jitter of a block of rows: row r of the block draws with index first_index + r.
struct Draw {
  uint64_t key = 0;
  uint64_t first_index = 0;
  uint32_t step = 0;
  bool active = false;
  uint32_t threshold = 0;  // dropout: words below it drop the element
  float scale = 1;         // dropout: 1 / (1 - rate); jitter: 2 epsilon
  float base = 0;          // jitter: 1 - epsilon
};

// y = a + dropout(b); a null: y = dropout(b). In place on either.
struct AddRows {
  void* y;
  const void* a;
  const void* b;
  Dtype dtype;
  int64_t rows, columns;
  Draw draw;
};

struct JitterRows {
  float* y;
  const void* x;
  Dtype dtype;  // of x
  bool add;
  int64_t rows, columns;
  Draw draw;
};

// What becomes of a product's rows c [rows, columns], see Product in kernels/backend.h.
struct Epilogue {
  const void* c;  // F32, or the matrix's dtype where y is c
  int64_t c_stride;
  Dtype c_dtype;
  void* y;
  int64_t y_stride;
  Dtype y_dtype;
  bool add;
  int64_t rows, columns;
  const float* bias;  // or null
  bool relu;
  Draw draw;
  const void* relu_of;  // or null
  int64_t relu_of_stride;
  Dtype relu_of_dtype;
  float relu_of_scale;
};

// The hidden elements of a feed-forward layer, see Backend::activate. Rows are dense.
struct ActivateRows {
  Dtype dtype;
  bool gelu;  // else ReLU
  int64_t rows, columns;
  const void* u;
  const void* gate;  // or null
  void* h;           // forward
  const void* dh;    // backward, and what follows
  void* du;          // may be dh
  void* dgate;       // null where gate is
  Draw draw;
};

struct NormRows {
  Dtype dtype;
  bool centered;  // LayerNorm
  float epsilon;
  int64_t rows, columns;
  const void* x;
  float* statistics;  // [rows, 2]
  const float* scale;
  const float* bias;  // forward; or null
  void* y;            // forward
  const void* dy;     // backward, and what follows
  void* dx;
  bool add;
  float* dscale;  // [columns], overwritten with this block's part
  float* dbias;   // or null
};

// What a run of queries sees of the keys of its head.
struct Sights {
  int64_t keys;  // visible ones end before it
  bool causal;
  int64_t first_position;  // of row 0
  float scale;
  const int32_t* mask;  // [keys], or null
  const float* bias;    // row 0's, or null
  int64_t bias_stride;
};

// Scores of a tile of queries against keys, s [rows, stride], become unnormalised probabilities p [rows, stride].
struct SoftmaxRows {
  float* s;
  void* p;  // F32: may be s
  Dtype dtype;
  int64_t rows, padded_keys, stride;  // columns from a row's last visible key to padded_keys become 0
  Sights sights;
  float* inverse;      // [rows]: 1 / sum, 0 where nothing is visible
  float* log_sum_exp;  // [rows]
};

// The same transposed, for backward in BF16: rows are keys, columns are the tile's queries.
struct SoftmaxGradient {
  const float* s;                                      // [keys, queries]: scores before scaling
  float* dp;                                           // [keys, queries]: gradient of the probabilities; becomes that of the scores where keep_ds
  void* p;                                             // [keys, queries] BF16
  void* ds;                                            // [keys, queries] BF16
  int64_t keys, padded_keys, queries, padded_queries;  // rows and columns beyond become 0
  bool causal, keep_ds;
  int64_t first_position;  // of column 0
  float scale;
  const int32_t* mask;       // [keys], or null
  const float* bias;         // [keys, padded_queries], or null
  const float* log_sum_exp;  // [padded_queries]
  const float* center;       // [padded_queries]: <do, o>
};

// The same by rows of queries, F32: s becomes the probabilities, dp the gradient of the scores.
struct SoftmaxGradientRows {
  float* s;                              // [queries, stride]: scores before scaling
  float* dp;                             // [queries, stride]: gradient of the probabilities
  int64_t queries, padded_keys, stride;  // columns from a row's last visible key to padded_keys become 0
  Sights sights;
  const float* log_sum_exp;  // [queries]
  const float* center;       // [queries]: <do, o>
};

// c [m, n] (+)= A b for b [k, n] whose rows stay in a core's cache; A's element (i, j) is a[i * a_row + j * a_column], so
// that A may be a transposed matrix. n is a multiple of 16. An element's sum is one chain of fused products in the order
// of k, whatever m and n are.
struct TileProduct {
  float* c;
  int64_t c_stride;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_stride;
  int64_t m, n, k;
  bool add;
};

// Dense F32 rows [rows, padded_columns] from rows with a stride; columns beyond `columns` become 0.
struct CopyRows {
  float* y;
  const void* x;
  Dtype dtype;  // of x
  int64_t stride;
  int64_t rows, columns, padded_columns;
};

struct CrossEntropyRow {
  void* row;  // [columns], becomes the gradient
  Dtype dtype;
  int64_t columns, target;
  float* scratch;  // [columns]
  float scale, z;
  bool gradient;
  float* loss;
  int32_t* correct;
};

struct GatherRows {
  void* y;
  Dtype y_dtype;
  bool add;
  const void* x;
  Dtype x_dtype;
  int64_t rows, columns, choices;
  const int32_t* index;  // [rows, choices]
  const float* weight;   // [rows, choices], or null
};

// See Backend::quantise.
struct QuantiseRows {
  int32_t* payload;  // [rows, payload_words(columns)]
  float* norms;      // [rows, 2], or null
  const void* x;
  Dtype dtype;
  PayloadFormat format;
  int64_t rows, columns;
};
struct DequantiseRows {
  void* y;
  float* norms;  // [rows, 2], or null
  const int32_t* payload;
  Dtype dtype;  // of y
  PayloadFormat format;
  int64_t rows, columns;
};

// Scalars of AdamW as the loop uses them.
struct AdamWScalars {
  float gradient_scale, beta1, beta2, rest1, rest2, correction1, correction2, epsilon, rate, decay;
};
struct SgdScalars {
  float gradient_scale, momentum, rate, decay;
};

// The layout in which the matrix library reads the second operand B [k, n] of a product: plain rows, or blocks of
// k_block x n_block elements, column blocks outermost, in which `interleave` rows lie interleaved.
struct PackLayout {
  Dtype dtype = Dtype::kF32;
  bool blocked = false;
  int64_t k = 0, n = 0;
  int64_t k_block = 1, n_block = 1, interleave = 1;
  int64_t bytes = 0;

  int64_t padded_k() const { return (k + k_block - 1) / k_block * k_block; }
};

// Fills part of a packed operand. source_rows_are_k: B[k][n] = source[k * stride + n], else source[n * stride + k].
// Source rows from `source_rows` on count as zero. round: F32 source values pass through BF16.
struct PackPart {
  const PackLayout* layout;
  void* packed;
  const void* source;
  Dtype dtype;  // of the source
  int64_t stride;
  int64_t source_rows;
  bool source_rows_are_k;
  bool round;
  int64_t first_n, last_n;  // multiples of the layout's n_block, but for the end
};

// y [columns, padded_rows] = x^T for x [rows, columns]; columns of y from `rows` on are zero. padded_rows is a
// multiple of 32.
struct TransposeRows {
  void* y;
  Dtype y_dtype;
  const void* x;
  Dtype x_dtype;
  int64_t stride;  // of x
  int64_t rows, columns, padded_rows;
};

struct Loops {
  void (*convert)(void* y, Dtype y_dtype, const void* x, Dtype x_dtype, int64_t n, bool add);
  void (*add_rows)(const AddRows&);
  void (*jitter_rows)(const JitterRows&);
  double (*sum)(const void* x, Dtype dtype, int64_t n, bool squares);
  // y [columns] (+)= column sums of x [rows, columns] with a stride.
  void (*sum_columns)(float* y, const void* x, Dtype dtype, int64_t rows, int64_t columns, int64_t stride, bool add);
  void (*epilogue)(const Epilogue&);
  void (*activate)(const ActivateRows&);
  void (*activate_backward)(const ActivateRows&);
  void (*norm_forward)(const NormRows&);
  void (*norm_backward)(const NormRows&);
  void (*softmax_rows)(const SoftmaxRows&);
  void (*softmax_gradient)(const SoftmaxGradient&);
  void (*softmax_gradient_rows)(const SoftmaxGradientRows&);
  void (*multiply_tile)(const TileProduct&);
  void (*copy_rows)(const CopyRows&);
  // d[r] = <a[r], b[r]> for rows with strides.
  void (*dot_rows)(float* d, const void* a, const void* b, Dtype dtype, int64_t rows, int64_t columns, int64_t a_stride, int64_t b_stride);
  // y[r] = x[r] * (factors ? factors[r] : 1) * scale for rows with strides.
  void (*scale_rows)(void* y, Dtype dtype, int64_t y_stride, const float* x, int64_t x_stride, const float* factors, float scale, int64_t rows,
                     int64_t columns);
  void (*cross_entropy_row)(const CrossEntropyRow&);
  // p [rows, n] = softmax of logits, log_sum_exp [rows].
  void (*softmax)(float* p, float* log_sum_exp, const float* logits, int64_t rows, int64_t n);
  // -sum p ln p
  double (*entropy)(const float* p, int64_t n);
  void (*gather_rows)(const GatherRows&);
  float (*dot)(const void* a, const void* b, Dtype dtype, int64_t n);
  void (*quantise)(const QuantiseRows&);
  void (*dequantise)(const DequantiseRows&);
  void (*adamw)(float* w, float* m, float* v, const float* g, int64_t n, const AdamWScalars&);
  void (*sgd)(float* w, float* momentum, const float* g, int64_t n, const SgdScalars&);
  void (*pack)(const PackPart&);
  void (*transpose)(const TransposeRows&);
};

const Loops& loops_v3();
const Loops& loops_v4();

}  // namespace switchyard::cpu
