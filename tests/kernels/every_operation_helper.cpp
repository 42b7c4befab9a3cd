#include <gtest/gtest.h>

#include "tests/kernels/every_operation.h"

namespace switchyard {
namespace {

const Random kRandom(1, Purpose::kJitter, 0, 3, 1000);

}  // namespace

Tensor EveryOperation::result(const std::string& name, Dtype dtype, Shape shape) {
  results.emplace_back(name, pool.uniform(dtype, shape));
  return results.back().second;
}

PackedMatrix EveryOperation::pack(int64_t out, int64_t in, Side side) {
  PackedMatrix packed;
  packed.storage = aligned.make(Dtype::kI32, {(backend.packed_bytes(activation, out, in, side) + 3) / 4});
  packed.dtype = activation;
  packed.out = out;
  packed.in = in;
  packed.side = side;
  backend.pack(packed, exact({out, in}));
  return packed;
}

void EveryOperation::memory() {
  const Tensor x = act({extents.tokens, extents.width}), y = result("copy from the host", activation, x.shape());
  const Tensor rows = result("zeroed rows", activation, x.shape()), columns = result("zeroed columns", Dtype::kF64, x.shape());
  backend.copy_from_host(x.data(), Out(y));
  backend.copy_to_host(y, result("copy to the host", activation, x.shape()).data());
  backend.zero(Out(rows.slice_rows(3, extents.tokens - 5)));
  backend.zero(Out(columns.slice_columns(1, extents.width - 3)));
}

void EveryOperation::elementwise() {
  const Shape shape{extents.tokens, extents.width};
  const Tensor x = act(shape);
  backend.convert(Out(result("convert", Dtype::kF32, shape)), x);
  backend.convert(Accumulate(result("convert and add", Dtype::kF64, shape)), x);
  backend.add(Out(result("add", activation, shape)), x, act(shape), {0.3, kRandom});
  backend.dropout(Out(result("dropout", activation, shape)), x, {0.3, kRandom});
  backend.jitter(Accumulate(result("jitter", Dtype::kF32, shape)), x, 0.01, kRandom);
}

void EveryOperation::sums() {
  for (int64_t n : {int64_t{1001}, extents.elements}) {
    const Tensor values = act({n});
    backend.sum(Accumulate(result("sum", Dtype::kF64, {1})), values);
    backend.sum_of_squares(Out(result("sum_of_squares", Dtype::kF64, {1})), values);
  }
  backend.sum_rows(Accumulate(result("sum_rows", Dtype::kF32, {extents.width})), act({extents.tokens, extents.width}));
}

void EveryOperation::activations() {
  const Shape shape{extents.tokens, extents.width};
  const Tensor x = act(shape), gate = act(shape), dh = act(shape);
  for (Activation kind : {Activation::kRelu, Activation::kGelu}) {
    backend.activate(Out(result("activate", activation, shape)), x, gate, kind, {0.3, kRandom});
    backend.activate_backward(Out(result("du", activation, shape)), Out(result("dgate", activation, shape)), dh, x, gate, kind, {0.3, kRandom});
  }
}

void EveryOperation::products() {
  const int64_t n = extents.tokens;
  for (int64_t inner : extents.inner) {
    const PackedMatrix forward = pack(130, inner, Side::kForward), backward = pack(inner, 130, Side::kBackward);
    const std::string of = " of inner extent " + std::to_string(inner);
    const Tensor x = act({n, inner}), few = act({17, inner});
    Product epilogue{x, &forward, Out(result("product with epilogue" + of, activation, {n, 130}))};
    epilogue.bias = exact({130});
    epilogue.relu = true;
    epilogue.dropout = {0.2, Random(1, Purpose::kHiddenDropout, 0, 3, 1000)};
    const Product products[] = {{x, &forward, Accumulate(result("forward product" + of, Dtype::kF32, {n, 130}))},
                                {few, &forward, Out(result("forward product of few rows" + of, activation, {17, 130}))},
                                {x, &backward, Out(result("backward product" + of, activation, {n, 130}))},
                                epilogue};
    backend.multiply(products);
  }
}

void EveryOperation::outer_products() {
  for (int64_t inner : extents.inner) {
    const Tensor dy = act({inner, 65}), rows = act({inner, 130});
    const Tensor dw = result("outer product of " + std::to_string(inner) + " rows", Dtype::kF32, {65, 130});
    const OuterProduct lanes[] = {{dy, rows, Out(dw)}, {dy.slice_rows(3, 40), rows.slice_rows(9, 40), Accumulate(dw)}};
    backend.multiply_outer(lanes);
  }
}

void EveryOperation::embedding() {
  const Shape shape{extents.tokens, extents.width};
  const Tensor tokens = pool.integers({extents.tokens}, 0, 50), dx = act(shape);
  backend.embed(Out(result("embed", activation, shape)), act({50, extents.width}), act({extents.sequence, extents.width}), tokens, extents.sequence, 0);
  backend.embed_backward(Accumulate(result("dtable", Dtype::kF32, {50, extents.width})),
                         Out(result("dpositions", Dtype::kF32, {extents.sequence, extents.width})), dx, tokens, extents.sequence);
}

void EveryOperation::norms() {
  const Shape shape{extents.tokens, extents.width};
  const Tensor x = act(shape), dy = act(shape);
  for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    const bool layer_norm = kind == NormKind::kLayerNorm;
    const Tensor scale = exact({extents.width}), statistics = result("statistics", Dtype::kF32, {extents.tokens, 2});
    const Tensor bias = layer_norm ? exact({extents.width}) : Tensor(), dbias = layer_norm ? result("dbias", Dtype::kF32, {extents.width}) : Tensor();
    backend.norm_forward(Out(result("norm", activation, shape)), Out(statistics), x, scale, bias, {kind, 1e-5});
    backend.norm_backward(Out(result("dx of norm", activation, shape)), Out(result("dscale", Dtype::kF32, {extents.width})), Accumulate(dbias), dy, x,
                          statistics, scale, {kind, 1e-5});
  }
}

void EveryOperation::attention() {
  const int64_t tokens = extents.tokens, width = extents.width, sequence = extents.sequence;
  const AttentionShape s{tokens / sequence, sequence, sequence, sequence, extents.heads, width / extents.heads, 0, true, 0.2};
  const Tensor qkv = act({tokens, 3 * width}), gradients = result("dq, dk, dv", activation, {tokens, 3 * width});
  const AttentionInputs in{qkv.slice_columns(0, width), qkv.slice_columns(width, width), qkv.slice_columns(2 * width, width),
                           pool.integers({s.batch, s.keys}, 0, 4), exact({s.heads, s.queries, s.keys})};
  const Tensor o = result("attention", activation, {tokens, width}), lse = result("log_sum_exp", Dtype::kF32, {s.batch, s.heads, s.queries});
  backend.attention_forward(Out(o), Out(lse), in, s);
  backend.attention_backward(Out(gradients.slice_columns(0, width)), Out(gradients.slice_columns(width, width)), Out(gradients.slice_columns(2 * width, width)),
                             Accumulate(result("dbias of attention", Dtype::kF32, in.bias.shape())), act({tokens, width}), o, lse, in, s);
}

void EveryOperation::relative_bias() {
  const Shape shape{extents.heads, extents.sequence, extents.sequence};
  const Tensor bucket = pool.integers({2 * extents.sequence - 1}, 0, 32);
  backend.relative_bias(Out(result("relative bias", Dtype::kF32, shape)), exact({32, extents.heads}), bucket);
  backend.relative_bias_backward(Accumulate(result("dtable of relative bias", Dtype::kF32, {32, extents.heads})), exact(shape), bucket);
}

void EveryOperation::loss() {
  const Tensor logits = result("dlogits", activation, {extents.tokens, extents.vocabulary}), targets = pool.integers({extents.tokens}, -1, extents.vocabulary);
  backend.cross_entropy(logits, Out(result("loss", Dtype::kF32, {extents.tokens})), Out(result("correct", Dtype::kI32, {extents.tokens})), targets,
                        {0.1, 1e-3, true});
}

void EveryOperation::updates() {
  const Shape shape{extents.elements};
  const Tensor w = result("master", Dtype::kF32, shape), m = result("m", Dtype::kF32, shape), v = result("v", Dtype::kF32, shape);
  const Tensor speed = result("momentum", Dtype::kF32, shape), gradient = exact(shape);
  backend.convert(Out(v), exact(shape, 0, 1));
  backend.adamw(w, m, v, gradient, {0.01, 0.9, 0.95, 1e-8, 0.1, 0.1, 0.05, 0.7});
  backend.sgd(w, speed, gradient, {0.01, 0.9, 0.1, 0.7});
}

void EveryOperation::routing() {
  const int64_t tokens = extents.tokens, experts = extents.experts;
  const RouterShape s{tokens, experts, 64};
  const RouterLoss loss{0.3, 0.02};
  const Tensor p = result("probabilities", Dtype::kF32, {tokens, experts}), lse = result("router log_sum_exp", Dtype::kF32, {tokens});
  const Tensor expert = result("expert", Dtype::kI32, {tokens}), gate = result("gate", Dtype::kF32, {tokens});
  const Tensor requested = result("requested", Dtype::kI32, {s.groups(), experts}), kept = result("kept", Dtype::kI32, {experts});
  const Tensor slot = result("slot", Dtype::kI32, {tokens}), position = result("position", Dtype::kI32, {tokens});
  const Tensor token = result("token", Dtype::kI32, {tokens});
  backend.router_forward(Out(p), Out(lse), Out(expert), Out(gate), exact({tokens, experts}, -3, 3), pool.integers({tokens}, 0, 5));
  backend.assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, s, {4});
  backend.router_losses(Out(result("router losses", Dtype::kF64, {kRouterSums})), p, lse, expert, requested, s, loss);
  backend.router_backward(Out(result("router dlogits", Dtype::kF32, {tokens, experts})), exact({tokens}), p, lse, expert, requested, s, loss);
}

void EveryOperation::rows() {
  const int64_t tokens = extents.tokens, width = extents.width;
  const Tensor x = act({tokens, width}), list = pool.integers({tokens}, -1, tokens), index = pool.integers({tokens, 2}, -1, tokens), a = act({tokens, width});
  backend.gather_rows(Out(result("gather_rows", activation, {tokens, width})), x, list, Tensor());
  backend.gather_rows(Accumulate(result("weighted gather_rows", Dtype::kF32, {tokens, width})), x, index, exact({tokens, 2}));
  backend.row_dot(Out(result("row_dot", Dtype::kF32, {tokens, 2})), a, x, index);
}

void EveryOperation::payloads() {
  const int64_t tokens = extents.tokens, width = extents.width;
  const Tensor x = act({tokens, width});
  for (PayloadFormat format : {PayloadFormat::kInt8, PayloadFormat::kFp8}) {
    const Tensor payload = pool.make(Dtype::kI32, {tokens, payload_words(width)});
    results.emplace_back("payload", payload);
    backend.quantise(Out(payload), Out(result("norms", Dtype::kF32, {tokens, 2})), x, format);
    backend.dequantise(Out(result("values of a payload", activation, {tokens, width})), Out(result("norms of a payload", Dtype::kF32, {tokens, 2})), payload,
                       format);
  }
}

void EveryOperation::all() {
  for (const OperationPart& part : operation_parts()) (this->*part.run)();
}

const std::vector<OperationPart>& operation_parts() {
  using E = EveryOperation;
  static const std::vector<OperationPart> parts = {{"memory", &E::memory},       {"elementwise", &E::elementwise},
                                                   {"sums", &E::sums},           {"activations", &E::activations},
                                                   {"products", &E::products},   {"outer_products", &E::outer_products},
                                                   {"embedding", &E::embedding}, {"norms", &E::norms},
                                                   {"attention", &E::attention}, {"relative_bias", &E::relative_bias},
                                                   {"loss", &E::loss},           {"updates", &E::updates},
                                                   {"routing", &E::routing},     {"rows", &E::rows},
                                                   {"payloads", &E::payloads}};
  return parts;
}

void expect_same_results(const EveryOperation& actual, const EveryOperation& expected, const std::string& when) {
  ASSERT_EQ(actual.results.size(), expected.results.size());
  for (size_t i = 0; i < actual.results.size(); ++i) {
    expect_same_bits(actual.results[i].second, expected.results[i].second, actual.results[i].first + ", " + when);
  }
}

}  // namespace switchyard
