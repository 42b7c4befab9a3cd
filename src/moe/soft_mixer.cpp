#include "src/moe/soft_mixer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "src/layers/initializers.h"

namespace switchyard {
namespace {

// Rows of one sequence, of a matrix with the rows of all.
Tensor part(const Tensor& x, int64_t sequence, int64_t sequences) {
  const int64_t rows = x.rows() / sequences;
  return x.slice_rows(sequence * rows, rows);
}

Tensor as_column(const Tensor& x) { return x.reshape({x.rows(), 1}); }

// x itself where it has that dtype.
Tensor converted(Context& ctx, const Tensor& x, Dtype dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor copy = ctx.temporary(dtype, x.shape());
  ctx.backend.convert(Out(copy), x);
  return copy;
}

// The rows of each sequence as a matrix [M, D] to multiply with, in scratch memory.
std::vector<PackedMatrix> packed(Context& ctx, const Tensor& rows, int64_t sequences, Side side) {
  std::vector<PackedMatrix> matrices;
  for (int64_t b = 0; b < sequences; ++b) {
    const Tensor matrix = part(rows, b, sequences);
    PackedMatrix& result = matrices.emplace_back(PackedMatrix{Tensor(), ctx.precision.activation, matrix.rows(), matrix.columns(), side});
    const int64_t bytes = ctx.backend.packed_bytes(result.dtype, result.out, result.in, side);
    result.storage = ctx.temporary(Dtype::kI32, {(bytes + 3) / 4});
    ctx.backend.pack(result, matrix);
  }
  return matrices;
}

// y (+)= x times each sequence's matrix.
void multiply(Context& ctx, const Tensor& x, const std::vector<PackedMatrix>& matrices, Target y) {
  const int64_t sequences = static_cast<int64_t>(matrices.size());
  std::vector<Product> products(matrices.size());
  for (int64_t b = 0; b < sequences; ++b) {
    Product& product = products[static_cast<size_t>(b)];
    product.x = part(x, b, sequences);
    product.matrix = &matrices[static_cast<size_t>(b)];
    product.y = {part(y.tensor, b, sequences), y.add};
  }
  ctx.backend.multiply(products);
}

// sums [B * M, D] exact: weights^T rows of each sequence. weights [T, M] exact, rows [T, D] activation.
void weighted_sums(Context& ctx, const Tensor& weights, const Tensor& rows, int64_t sequences, const Tensor& sums) {
  const Arena::Mark mark(ctx.scratch);
  const Tensor operand = converted(ctx, weights, rows.dtype());
  std::vector<OuterProduct> products;
  for (int64_t b = 0; b < sequences; ++b) products.push_back({part(operand, b, sequences), part(rows, b, sequences), Out(part(sums, b, sequences))});
  ctx.backend.multiply_outer(products);
}

// One sequence of `tokens` tokens. `weights` are zeros and stay so where the mask is 0.
template <class T>
void softmax_over_tokens(const T* logits, const int32_t* mask, int64_t tokens, int64_t slots, T* weights) {
  std::vector<T> largest(static_cast<size_t>(slots), -std::numeric_limits<T>::infinity()), sum(static_cast<size_t>(slots), 0);
  for (int64_t t = 0; t < tokens; ++t) {
    if (mask[t] == 0) continue;
    for (size_t m = 0; m < sum.size(); ++m) largest[m] = std::max(largest[m], logits[t * slots + static_cast<int64_t>(m)]);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    if (mask[t] == 0) continue;  // the weights are zeros
    for (size_t m = 0; m < sum.size(); ++m) {
      const int64_t i = t * slots + static_cast<int64_t>(m);
      sum[m] += weights[i] = std::exp(logits[i] - largest[m]);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    if (mask[t] == 0) continue;
    for (size_t m = 0; m < sum.size(); ++m) weights[t * slots + static_cast<int64_t>(m)] /= sum[m];
  }
}

// Statistics of the combining weights c: sums over tokens of -sum_m c ln c, and of the largest c.
struct Mixture {
  double entropy = 0, largest = 0;
};

// The same over slots, for any number of sequences.
template <class T>
Mixture softmax_over_slots(const T* logits, const int32_t* mask, int64_t tokens, int64_t slots, T* weights) {
  Mixture mixture;
  for (int64_t t = 0; t < tokens; ++t) {
    if (mask[t] == 0) continue;
    const T* row = logits + t * slots;
    T* out = weights + t * slots;
    const T largest = *std::max_element(row, row + slots);
    T sum = 0;
    for (int64_t m = 0; m < slots; ++m) sum += out[m] = std::exp(row[m] - largest);
    for (int64_t m = 0; m < slots; ++m) {
      out[m] /= sum;
      if (out[m] > 0) mixture.entropy -= static_cast<double>(out[m]) * std::log(static_cast<double>(out[m]));
    }
    mixture.largest += static_cast<double>(*std::max_element(out, out + slots));
  }
  return mixture;
}

// Both softmaxes of logits [T, M], on the host.
template <class T>
Mixture softmaxes(Backend& backend, const Tensor& logits, const std::vector<int32_t>& mask, int64_t sequences, Out dispatch, Out combine) {
  const int64_t slots = logits.columns(), length = sequences == 0 ? 0 : logits.rows() / sequences;
  std::vector<T> host(static_cast<size_t>(logits.elements())), over_tokens(host.size()), over_slots(host.size());
  backend.copy_to_host(logits, host.data());
  for (int64_t b = 0; b < sequences; ++b) {
    const int64_t first = b * length * slots;
    softmax_over_tokens(host.data() + first, mask.data() + b * length, length, slots, over_tokens.data() + first);
  }
  const Mixture mixture = softmax_over_slots(host.data(), mask.data(), logits.rows(), slots, over_slots.data());
  backend.copy_from_host(over_tokens.data(), dispatch);
  backend.copy_from_host(over_slots.data(), combine);
  return mixture;
}

// dlogits = d * (dd - sum over tokens of d dd) + c * (dc - sum over slots of c dc)
template <class T>
void softmaxes_backward(Backend& backend, const SoftMixer::Saved& saved, const Tensor& ddispatch, const Tensor& dcombine, Out dlogits) {
  const size_t tokens = static_cast<size_t>(saved.dispatch.rows()), slots = static_cast<size_t>(saved.dispatch.columns());
  const size_t length = tokens / static_cast<size_t>(std::max<int64_t>(1, saved.sequences));
  const auto on_host = [&](const Tensor& x) {
    std::vector<T> host(static_cast<size_t>(x.elements()));
    backend.copy_to_host(x, host.data());
    return host;
  };
  const std::vector<T> d = on_host(saved.dispatch), c = on_host(saved.combine), dd = on_host(ddispatch), dc = on_host(dcombine);
  std::vector<T> result(d.size()), of_slot(slots);
  for (size_t t = 0; t < tokens; ++t) {
    if (t % length == 0) {
      std::fill(of_slot.begin(), of_slot.end(), T{0});
      for (size_t row = t * slots; row < (t + length) * slots; row += slots) {
        for (size_t m = 0; m < slots; ++m) of_slot[m] += d[row + m] * dd[row + m];
      }
    }
    T of_token = 0;
    const size_t row = t * slots;
    for (size_t m = 0; m < slots; ++m) of_token += c[row + m] * dc[row + m];
    for (size_t m = 0; m < slots; ++m) result[row + m] = d[row + m] * (dd[row + m] - of_slot[m]) + c[row + m] * (dc[row + m] - of_token);
  }
  backend.copy_from_host(result.data(), dlogits);
}

}  // namespace

SoftMixer::SoftMixer(const std::string& prefix, const MoeShape& shape, const MoeOptions& options) : experts_(options.experts), slots_(options.soft_slots) {
  weight_.name = prefix + ".router.weight";
  weight_.shape = {experts_ * slots_, shape.width};
  weight_.initializer = scaled_fan_in(shape.initializer_scale, shape.width);
  weight_.forms = {.packed_forward = true, .packed_backward = true, .packed_exact = true};
}

// Entries are sorted by (expert, sequence, slot of the expert); the route's tokens are the rows (sequence, slot).
void SoftMixer::fill_route(Context& ctx, int64_t sequences, Route& route, RouterStatistics& statistics) const {
  const int64_t all_slots = experts_ * slots_, rows = sequences * all_slots;
  route.shape = {rows, experts_, all_slots};
  route.choices = 1;
  route.capacity = slots_;
  route.entries = rows;
  route.gate = Tensor();
  std::vector<int32_t> token(static_cast<size_t>(rows)), position(token.size()), expert(token.size());
  for (int64_t entry = 0; entry < rows; ++entry) {
    const int64_t e = entry / (sequences * slots_), b = entry / slots_ % sequences, p = entry % slots_;
    const int64_t row = b * all_slots + e * slots_ + p;
    token[static_cast<size_t>(entry)] = static_cast<int32_t>(row);
    position[static_cast<size_t>(row)] = static_cast<int32_t>(entry);
    expert[static_cast<size_t>(row)] = static_cast<int32_t>(e);
  }
  const std::vector<int32_t> requested(static_cast<size_t>(sequences * experts_), static_cast<int32_t>(slots_));
  route.listed.assign(static_cast<size_t>(experts_), static_cast<int32_t>(sequences * slots_));
  const auto keep = [&ctx](const std::vector<int32_t>& values, Shape shape) {
    const Tensor tensor = ctx.keep(Dtype::kI32, shape);
    ctx.backend.copy_from_host(values.data(), Out(tensor));
    return tensor;
  };
  route.expert = keep(expert, {rows, 1});
  route.position = keep(position, {rows, 1});
  route.token = keep(token, {rows});
  route.source = route.token;
  route.requested = keep(requested, {sequences, experts_});
  route.kept = keep(route.listed, {experts_});
  statistics = RouterStatistics();
  statistics.requested.assign(static_cast<size_t>(experts_), sequences * slots_);
  statistics.kept = statistics.requested;
  statistics.asked = rows;
}

Tensor SoftMixer::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved, Route& route, RouterStatistics& statistics) const {
  const Dtype exact = ctx.precision.exact;
  const int64_t tokens = x.rows(), all_slots = experts_ * slots_;
  const int64_t sequences = tokens == 0 ? 0 : tokens / std::max<int64_t>(1, batch.sequence_length);
  check(tokens == sequences * batch.sequence_length || tokens == 0, "SoftMixer: rows that are no whole sequences");
  saved.sequences = sequences;
  saved.x = x;
  saved.dispatch = ctx.keep(exact, {tokens, all_slots});
  saved.combine = ctx.keep(exact, {tokens, all_slots});
  fill_route(ctx, sequences, route, statistics);

  const Tensor slots_in = ctx.temporary(ctx.precision.activation, {sequences * all_slots, x.columns()});
  const Arena::Mark mark(ctx.scratch);
  const Tensor logits = ctx.temporary(exact, {tokens, all_slots});
  Product product;
  product.x = converted(ctx, x, exact);
  product.matrix = &weight_.forward;
  product.y = Out(logits);
  ctx.backend.multiply({&product, 1});
  std::vector<int32_t> mask(static_cast<size_t>(tokens), 1);
  if (batch.mask.exists()) ctx.backend.copy_to_host(batch.mask, mask.data());
  const auto both = exact == Dtype::kF64 ? softmaxes<double> : softmaxes<float>;
  const Mixture mixture = both(ctx.backend, logits, mask, sequences, Out(saved.dispatch), Out(saved.combine));
  statistics.sums = {0, 0, mixture.entropy, mixture.largest};
  statistics.tokens = tokens - std::count(mask.begin(), mask.end(), 0);

  const Tensor sums = slots_in.dtype() == exact ? slots_in : ctx.temporary(exact, slots_in.shape());
  weighted_sums(ctx, saved.dispatch, x, sequences, sums);
  if (sums.dtype() != slots_in.dtype()) ctx.backend.convert(Out(slots_in), sums);
  return slots_in;
}

void SoftMixer::combine(Context& ctx, const Tensor& returned, const Route& route, Saved& saved, Target y) const {
  saved.slots_out = ctx.keep(ctx.precision.activation, returned.shape());
  ctx.backend.gather_rows(Out(saved.slots_out), returned, as_column(route.position), Tensor());
  const Arena::Mark mark(ctx.scratch);
  const std::vector<PackedMatrix> matrices = packed(ctx, saved.slots_out, saved.sequences, Side::kBackward);
  multiply(ctx, converted(ctx, saved.combine, ctx.precision.activation), matrices, y);
}

Tensor SoftMixer::combine_backward(Context& ctx, const Tensor& dy, const Route& route, const Saved& saved, Out dreturned) const {
  const Tensor dcombine = ctx.temporary(ctx.precision.exact, saved.combine.shape());
  const Arena::Mark mark(ctx.scratch);
  multiply(ctx, dy, packed(ctx, saved.slots_out, saved.sequences, Side::kForward), Out(dcombine));
  const Tensor dslots_out = ctx.temporary(ctx.precision.exact, saved.slots_out.shape());
  weighted_sums(ctx, saved.combine, dy, saved.sequences, dslots_out);
  ctx.backend.gather_rows(dreturned, dslots_out, as_column(route.token), Tensor());
  return dcombine;
}

void SoftMixer::backward(Context& ctx, const Tensor& dslots_in, const Tensor& dcombine, const Saved& saved, Gradients& grads, Target dx) const {
  const Dtype exact = ctx.precision.exact, activation = ctx.precision.activation;
  const Arena::Mark mark(ctx.scratch);
  const Tensor dslots = converted(ctx, dslots_in, activation);
  const Tensor ddispatch = ctx.temporary(exact, saved.dispatch.shape());
  multiply(ctx, saved.x, packed(ctx, dslots, saved.sequences, Side::kForward), Out(ddispatch));
  multiply(ctx, converted(ctx, saved.dispatch, activation), packed(ctx, dslots, saved.sequences, Side::kBackward), dx);

  const Tensor dlogits = ctx.temporary(exact, saved.dispatch.shape());
  const auto both = exact == Dtype::kF64 ? softmaxes_backward<double> : softmaxes_backward<float>;
  both(ctx.backend, saved, ddispatch, dcombine, Out(dlogits));
  const OuterProduct outer{.dy = dlogits, .x = converted(ctx, saved.x, exact), .dw = grads.target(weight_)};
  ctx.backend.multiply_outer({&outer, 1});
  grads.done(weight_);
  Product product;
  product.x = dlogits;
  product.matrix = &weight_.backward;
  product.y = Accumulate(dx.tensor);
  ctx.backend.multiply({&product, 1});
}

}  // namespace switchyard
