// Backend: the whole mathematics of the project on one device, one method per operation.
//
// Letters: T tokens (rows) of a micro-batch, D model width, F feed-forward width, N vocabulary, E experts, H heads,
// K width of one head, B sequences, S sequence length, G token groups, n any number of rows, zero included.
//
// Rules that every implementation keeps:
//  - Result bits depend on the shapes and values of one call only: not on ranks, threads, alignment or history.
//  - Sums have one order. Threads divide outputs in chunks fixed by shape alone, never the terms of a sum.
//  - Tensors are contiguous unless a method says "strided": then rows may lie further apart than their length.
//  - Inputs and outputs do not overlap unless a method says "in place".
//  - "activation" stands for the dtype of the activations (F64, F32 or BF16), "exact" for F64 beside F64 and F32
//    otherwise. Arithmetic is done in exact, results are rounded once.
//  - A wrong shape or dtype is an InternalError.
//  - A Backend is used by one thread; threads of its own are its affair.
//
// Implementations: kernels/reference (plain loops, the executable specification, F64 and F32), kernels/cpu (F32, BF16),
// kernels/cuda (a plug-in).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/memory.h"
#include "kernels/payload.h"
#include "kernels/rng.h"
#include "kernels/tensor.h"

namespace switchyard {

// Which of its two products a packed matrix serves. For a weight W [out, in]:
enum class Side : uint8_t {
  kForward,   // y [n, out] = x [n, in] W^T
  kBackward,  // y [n, in]  = x [n, out] W
};

// A weight matrix [out, in] in the layout that one side's product reads. The bytes belong to the caller.
struct PackedMatrix {
  Tensor storage;  // I32 [bytes / 4], opaque; null until made
  Dtype dtype = Dtype::kF32;
  int64_t out = 0, in = 0;
  Side side = Side::kForward;

  int64_t inner() const { return side == Side::kForward ? in : out; }
  int64_t columns() const { return side == Side::kForward ? out : in; }
};

// What a feed-forward layer does to its hidden elements.
enum class Activation : uint8_t {
  kRelu,
  kGelu,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (switch.md 2.5)
};

// Inverted dropout: an element of row r, column c is zero where word(r, c) < drop_threshold(rate), else it is
// multiplied by 1 / (1 - rate). rate 0 is no dropout.
struct Dropout {
  double rate = 0;
  Random random{};
};

// A product may be cut between rows at multiples of this: every row keeps its bits. No panel of a backend is higher.
inline constexpr int64_t kRowPanel = 256;

// One product y = x * matrix (see Side), and what happens to y on its way out, in this order:
//   + bias, ReLU, dropout, * relu_of_scale where relu_of > 0 and 0 elsewhere, rounding, store or add.
struct Product {
  Tensor x;  // [n, inner], dtype of the matrix; strided
  const PackedMatrix* matrix = nullptr;
  Target y;       // [n, columns], dtype of the matrix, or exact; strided
  Tensor bias{};  // [columns], exact; or none
  bool relu = false;
  Dropout dropout{};
  Tensor relu_of{};          // [n, columns], dtype of the matrix; or none. The saved output of ReLU (and dropout)
  double relu_of_scale = 1;  // 1 / (1 - rate) of the forward's dropout
};

// dW = dy^T x: the gradient of a weight [out, in]. Several entries may share one dw: they join it in list order.
struct OuterProduct {
  Tensor dy;  // [n, out]; strided
  Tensor x;   // [n, in], dtype of dy; strided
  Target dw;  // [out, in], exact
};

enum class NormKind : uint8_t {
  kLayerNorm,  // y = (x - mean) * rstd * scale + bias,  rstd = 1 / sqrt(variance + epsilon)
  kRmsNorm,    // y = x * rstd * scale,                  rstd = 1 / sqrt(mean(x^2) + epsilon)
};
struct Norm {
  NormKind kind = NormKind::kLayerNorm;
  double epsilon = 1e-5;
};

// Multi-head attention over a batch. Queries are rows b * queries + i, keys and values rows b * key_stride + j with
// j < keys; head h is columns h * width .. of each. Query i stands at position first_position + i.
//   scores[i, j] = scale * <q_i, k_j> + bias[h, i, j];  visible iff mask[b, j] != 0 and (not causal or j <= position(i))
//   o_i = sum_j softmax_j(scores) v_j;  0 where no key is visible (log_sum_exp is then 0)
// The softmax is exact. The weights, and in the backward the gradients of the scores, may be rounded to activation as
// operands of their products with v, k, q and d_o.
// No S x S matrix exists for more than one head of one sequence per thread.
struct AttentionShape {
  int64_t batch = 0, queries = 0, keys = 0, key_stride = 0;  // key_stride: rows from one sequence's keys to the next's
  int64_t heads = 0, width = 0;
  int64_t first_position = 0;
  bool causal = true;
  double scale = 1;
};
struct AttentionInputs {
  Tensor q;       // [B * queries, H * K] activation; strided
  Tensor k, v;    // [B * key_stride, H * K] activation; strided
  Tensor mask{};  // [B, keys] I32, or none: every key counts
  Tensor bias{};  // [H, queries, keys] exact, or none
};

// Cross-entropy over the vocabulary, per row with a target t >= 0, Z = logsumexp(row):
//   loss = scale * (Z - logit_t + z * Z^2)
//   dlogits = scale * ((1 + 2 z Z) softmax - onehot(t))
// Rows with t < 0 have loss 0 and gradient 0.
struct CrossEntropy {
  double scale = 1;  // 1 / N_target of the step
  double z = 0;      // coefficient of Z^2 (switch.md 2.7)
  bool gradient = true;
};

// Top-1 routing of one micro-batch (switch.md 1.2-1.6). Token t lies in group t / group_tokens.
struct RouterShape {
  int64_t tokens = 0, experts = 0;
  int64_t group_tokens = 1;  // the last group may be shorter
  int64_t groups() const { return tokens == 0 ? 0 : (tokens + group_tokens - 1) / group_tokens; }
};

// How many rows an expert keeps, and where they lie in the list sorted by (expert, slot).
struct SlotRule {
  int64_t capacity = 0;  // of one expert in one token group
  // Rows from one expert's slot 0 to the next one's: no expert keeps more, and rows that none fills are listed as -1. 0: as
  // many as the expert keeps, one after the other.
  int64_t block = 0;

  int64_t rows(const RouterShape& shape) const { return block > 0 ? shape.experts * block : shape.tokens; }  // of the list
  // Whether 32 bits number the rows, and no expert can keep more than its block.
  bool fits(const RouterShape& shape) const {
    if (block == 0) return true;
    const bool enough = block >= shape.tokens || shape.groups() == 0 || capacity <= block / shape.groups();
    return block > 0 && block <= INT32_MAX / shape.experts && enough;
  }
};

// Weights of the router's own losses, for one layer:
//   balance: experts * alpha / G of the step;  z: c_z / N_tokens of the step.
struct RouterLoss {
  double balance = 0;
  double z = 0;
};

// What the losses of one router come to in one micro-batch, in F64.
//   0 balance: sum over groups of balance * sum_i f_i P_i     (f before capacity, over the group's tokens that count)
//   1 z:       sum over tokens of z * logsumexp^2
//   2 entropy: sum over tokens of -sum_i p_i ln p_i           (a statistic)
//   3 gate:    sum over tokens of the chosen probability      (a statistic)
inline constexpr int kRouterSums = 4;

struct AdamW {
  double learning_rate = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double decay = 0;                         // w -= learning_rate * decay * w
  double correction1 = 1, correction2 = 1;  // 1 - beta^t
  double gradient_scale = 1;                // clipping
};
struct Sgd {
  double learning_rate = 0, momentum = 0, decay = 0, gradient_scale = 1;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  // Where its tensors are. The backend outlives them.
  virtual Memory& memory() = 0;
  virtual bool supports(Dtype activation) const = 0;

  // ---- memory -------------------------------------------------------------------------------------------------
  virtual void zero(Out y) = 0;                                // any dtype; strided
  virtual void copy_to_host(const Tensor& x, void* host) = 0;  // waits until the bytes are there
  virtual void copy_from_host(const void* host, Out y) = 0;

  // ---- elementwise: any mixture of F64, F32, BF16, same shape ----------------------------------------------------
  // y (+)= x. Converts; same dtype copies.
  virtual void convert(Target y, const Tensor& x) = 0;
  // y = a + dropout(b), in place on a or b. All one dtype.
  virtual void add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) = 0;
  // y = dropout(x), in place. The backward of dropout is dropout.
  virtual void dropout(Out y, const Tensor& x, const Dropout& dropout) = 0;
  // y (+)= x * u, u uniform in [1 - epsilon, 1 + epsilon): 1 - epsilon + 2 epsilon unit_float(word). y exact, x exact
  // or activation. epsilon 0: u = 1. The backward of jitter is jitter.
  virtual void jitter(Target y, const Tensor& x, double epsilon, const Random& random) = 0;

  // ---- sums, in F64, one order ------------------------------------------------------------------------------------
  // total [1] F64 (+)= sum of x (any float dtype).
  virtual void sum(Target total, const Tensor& x) = 0;
  // total [1] F64 (+)= sum of squares of x.
  virtual void sum_of_squares(Target total, const Tensor& x) = 0;
  // y [columns] exact (+)= sum over rows of x [n, columns] activation.
  virtual void sum_rows(Target y, const Tensor& x) = 0;

  // ---- matrix products --------------------------------------------------------------------------------------------
  virtual int64_t packed_bytes(Dtype dtype, int64_t out, int64_t in, Side side) const = 0;
  // w [out, in]: exact or the packed dtype. Rounds once, then packs into packed.storage.
  virtual void pack(PackedMatrix& packed, const Tensor& w) = 0;
  // The products are independent of one another and may run side by side.
  virtual void multiply(std::span<const Product> products) = 0;
  virtual void multiply_outer(std::span<const OuterProduct> products) = 0;

  // ---- hidden elements of a feed-forward layer ---------------------------------------------------------------------
  // h = dropout(activation(u) * gate); gate none: 1. All [n, F] activation. What a Product's ReLU does not cover: GELU,
  // and gated layers (switch.md 2.5).
  virtual void activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) = 0;
  // With d = dropout(dh): du = d * gate * activation'(u), dgate = d * activation(u). du may be dh, in place; dgate.tensor
  // is none where gate is. ReLU'(0) = 0.
  virtual void activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) = 0;

  // ---- embedding -------------------------------------------------------------------------------------------------
  // x[t] = table[tokens[t]] + positions[first_position + t % sequence] (positions [P, D] may be none). All activation
  // but tokens I32 [T].
  virtual void embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) = 0;
  // dtable [N, D] exact (+)= rows of dx in token order; dpositions [>= sequence, D] exact (+)= likewise: with add
  // false the rows that no token names are zeroed. dpositions.tensor may be none.
  virtual void embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) = 0;

  // ---- norm ------------------------------------------------------------------------------------------------------
  // x, y [n, D] activation; scale, bias [D] exact (bias none for RMSNorm); statistics [n, 2] exact: mean (0 for
  // RMSNorm), rstd.
  virtual void norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) = 0;
  // dx [n, D] activation (+)=, dscale, dbias [D] exact (+)=. dbias.tensor is none where there is no bias.
  virtual void norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                             const Norm& norm) = 0;

  // ---- attention ---------------------------------------------------------------------------------------------------
  // o [B * queries, H * K] activation, log_sum_exp [B, H, queries] exact.
  virtual void attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) = 0;
  // dq, dk, dv like q, k, v (strided, overwritten); dbias [H, queries, keys] exact (+)=, or none.
  virtual void attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp,
                                  const AttentionInputs& inputs, const AttentionShape& shape) = 0;

  // ---- relative position bias (switch.md 2.3) ----------------------------------------------------------------------
  // bias[h, i, j] = table[bucket[queries - 1 + j - i], h]. bias [H, queries, keys] exact; table [N, H] exact, of N buckets;
  // bucket [queries + keys - 1] I32 in [0, N): of each distance from a query to a key, the smallest first.
  virtual void relative_bias(Out bias, const Tensor& table, const Tensor& bucket) = 0;
  // dtable [N, H] exact (+)= sum of dbias [H, queries, keys] exact over the places that read it.
  virtual void relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) = 0;

  // ---- loss ------------------------------------------------------------------------------------------------------
  // logits [n, N] activation: in place, becomes dlogits if options.gradient. loss [n] exact. correct [n] I32: 1 where
  // the largest logit (lowest index on a tie) is the target's, 0 elsewhere.
  virtual void cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) = 0;

  // ---- routing ---------------------------------------------------------------------------------------------------
  // logits [T, E] exact -> probabilities [T, E] exact, log_sum_exp [T] exact, expert [T] I32, gate [T] exact.
  // expert is the lowest index of the largest probability, -1 where mask [T] I32 (or none) is 0; gate is 0 there.
  virtual void router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) = 0;
  // Left to right within each group, rule.capacity tokens an expert; a token beyond it is dropped.
  //   requested [G, E] I32: tokens that chose the expert;  kept [E] I32: tokens that it keeps, over all groups
  //   slot [T] I32: number among the kept rows of its expert in the micro-batch, groups in order; -1 where dropped
  //   position [T] I32: row in the list sorted by (expert, slot); -1 where dropped
  //   token [rule.rows] I32: the inverse: token of each list row; -1 where none is
  virtual void assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) = 0;
  // sums [kRouterSums] F64 (overwritten).
  virtual void router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                             const RouterShape& shape, const RouterLoss& loss) = 0;
  // dlogits [T, E] exact: gate gradient dgate [T] (0 where dropped) on the chosen probability, balance and z, through
  // the softmax; 0 for padding (expert -1).
  virtual void router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert,
                               const Tensor& requested, const RouterShape& shape, const RouterLoss& loss) = 0;

  // ---- rows ------------------------------------------------------------------------------------------------------
  // y[i] (+)= sum over k of weight[i, k] * x[index[i, k]]; index [n, k] I32, -1 contributes nothing; weight [n, k]
  // exact or none (1). y, x: activation or exact. Scatter to slots is gather by the inverse index.
  virtual void gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) = 0;
  // d [n, k] exact = <a[i], b[index[i, k]]>, 0 where the index is -1. a, b activation.
  virtual void row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) = 0;

  // ---- payloads: formulas in kernels/payload.h, and the same bits on every backend -------------------------------------
  // payload [n, payload_words(D)] I32, opaque, from x [n, D] activation. norms [n, 2] F32, or none: of each row, of what it
  // loses and of x. format is not kPlain.
  virtual void quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) = 0;
  // y [n, D] activation, and the norms that quantise made.
  virtual void dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) = 0;

  // ---- update: all exact, one owned block, in place -----------------------------------------------------------------
  virtual void adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& options) = 0;
  virtual void sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& options) = 0;
};

// Plain loops in F64 and F32: what the others are tested against.
std::unique_ptr<Backend> make_reference_backend();
// oneDNN and vectorised loops. `threads` >= 1. Throws Error(kUsage) if the processor lacks x86-64-v3.
std::unique_ptr<Backend> make_cpu_backend(int threads);
// True where this processor multiplies BF16 faster than F32.
bool cpu_has_fast_bf16();

}  // namespace switchyard
