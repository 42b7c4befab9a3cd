#include "tests/cuda/mirror.h"

#include <vector>

#include "tests/cuda/journey.h"

namespace switchyard {

void Mirror::zero(Out y) {
  const Journey at(*backend_, {y.tensor});
  backend_->zero(at(y));
  at.home();
}

void Mirror::copy_to_host(const Tensor& x, void* host) {
  const Journey at(*backend_, {x});
  backend_->copy_to_host(at(x), host);
}

void Mirror::copy_from_host(const void* host, Out y) {
  const Journey at(*backend_, {y.tensor});
  backend_->copy_from_host(host, at(y));
  at.home();
}

void Mirror::convert(Target y, const Tensor& x) {
  const Journey at(*backend_, {y.tensor, x});
  backend_->convert(at(y), at(x));
  at.home();
}

void Mirror::add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) {
  const Journey at(*backend_, {y.tensor, a, b});
  backend_->add(at(y), at(a), at(b), dropout);
  at.home();
}

void Mirror::dropout(Out y, const Tensor& x, const Dropout& dropout) {
  const Journey at(*backend_, {y.tensor, x});
  backend_->dropout(at(y), at(x), dropout);
  at.home();
}

void Mirror::jitter(Target y, const Tensor& x, double epsilon, const Random& random) {
  const Journey at(*backend_, {y.tensor, x});
  backend_->jitter(at(y), at(x), epsilon, random);
  at.home();
}

void Mirror::sum(Target total, const Tensor& x) {
  const Journey at(*backend_, {total.tensor, x});
  backend_->sum(at(total), at(x));
  at.home();
}

void Mirror::sum_of_squares(Target total, const Tensor& x) {
  const Journey at(*backend_, {total.tensor, x});
  backend_->sum_of_squares(at(total), at(x));
  at.home();
}

void Mirror::sum_rows(Target y, const Tensor& x) {
  const Journey at(*backend_, {y.tensor, x});
  backend_->sum_rows(at(y), at(x));
  at.home();
}

void Mirror::pack(PackedMatrix& packed, const Tensor& w) {
  const Journey at(*backend_, {packed.storage, w});
  PackedMatrix there = packed;
  there.storage = at(packed.storage);
  backend_->pack(there, at(w));
  at.home();
}

void Mirror::multiply(std::span<const Product> products) {
  std::vector<Tensor> operands;
  for (const Product& p : products) operands.insert(operands.end(), {p.x, p.matrix->storage, p.y.tensor, p.bias, p.relu_of});
  const Journey at(*backend_, operands);
  std::vector<PackedMatrix> matrices;
  matrices.reserve(products.size());  // products point at them
  std::vector<Product> there;
  for (const Product& p : products) {
    matrices.push_back(*p.matrix);
    matrices.back().storage = at(p.matrix->storage);
    there.push_back(p);
    there.back().x = at(p.x);
    there.back().matrix = &matrices.back();
    there.back().y = at(p.y);
    there.back().bias = at(p.bias);
    there.back().relu_of = at(p.relu_of);
  }
  backend_->multiply(there);
  at.home();
}

void Mirror::multiply_outer(std::span<const OuterProduct> products) {
  std::vector<Tensor> operands;
  for (const OuterProduct& p : products) operands.insert(operands.end(), {p.dy, p.x, p.dw.tensor});
  const Journey at(*backend_, operands);
  std::vector<OuterProduct> there;
  for (const OuterProduct& p : products) there.push_back({at(p.dy), at(p.x), at(p.dw)});
  backend_->multiply_outer(there);
  at.home();
}

void Mirror::activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  const Journey at(*backend_, {h.tensor, u, gate});
  backend_->activate(at(h), at(u), at(gate), activation, dropout);
  at.home();
}

void Mirror::activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  const Journey at(*backend_, {du.tensor, dgate.tensor, dh, u, gate});
  backend_->activate_backward(at(du), at(dgate), at(dh), at(u), at(gate), activation, dropout);
  at.home();
}

void Mirror::embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) {
  const Journey at(*backend_, {x.tensor, table, positions, tokens});
  backend_->embed(at(x), at(table), at(positions), at(tokens), sequence, first_position);
  at.home();
}

void Mirror::embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) {
  const Journey at(*backend_, {dtable.tensor, dpositions.tensor, dx, tokens});
  backend_->embed_backward(at(dtable), at(dpositions), at(dx), at(tokens), sequence);
  at.home();
}

void Mirror::norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) {
  const Journey at(*backend_, {y.tensor, statistics.tensor, x, scale, bias});
  backend_->norm_forward(at(y), at(statistics), at(x), at(scale), at(bias), norm);
  at.home();
}

void Mirror::norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                           const Norm& norm) {
  const Journey at(*backend_, {dx.tensor, dscale.tensor, dbias.tensor, dy, x, statistics, scale});
  backend_->norm_backward(at(dx), at(dscale), at(dbias), at(dy), at(x), at(statistics), at(scale), norm);
  at.home();
}

void Mirror::attention_forward(Out o, Out log_sum_exp, const AttentionInputs& in, const AttentionShape& shape) {
  const Journey at(*backend_, {o.tensor, log_sum_exp.tensor, in.q, in.k, in.v, in.mask, in.bias});
  backend_->attention_forward(at(o), at(log_sum_exp), {at(in.q), at(in.k), at(in.v), at(in.mask), at(in.bias)}, shape);
  at.home();
}

void Mirror::attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp, const AttentionInputs& in,
                                const AttentionShape& shape) {
  const Journey at(*backend_, {dq.tensor, dk.tensor, dv.tensor, dbias.tensor, d_o, o, log_sum_exp, in.q, in.k, in.v, in.mask, in.bias});
  const AttentionInputs there{at(in.q), at(in.k), at(in.v), at(in.mask), at(in.bias)};
  backend_->attention_backward(at(dq), at(dk), at(dv), at(dbias), at(d_o), at(o), at(log_sum_exp), there, shape);
  at.home();
}

void Mirror::relative_bias(Out bias, const Tensor& table, const Tensor& bucket) {
  const Journey at(*backend_, {bias.tensor, table, bucket});
  backend_->relative_bias(at(bias), at(table), at(bucket));
  at.home();
}

void Mirror::relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) {
  const Journey at(*backend_, {dtable.tensor, dbias, bucket});
  backend_->relative_bias_backward(at(dtable), at(dbias), at(bucket));
  at.home();
}

void Mirror::cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) {
  const Journey at(*backend_, {logits, loss.tensor, correct.tensor, targets});
  backend_->cross_entropy(at(logits), at(loss), at(correct), at(targets), options);
  at.home();
}

void Mirror::router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) {
  const Journey at(*backend_, {probabilities.tensor, log_sum_exp.tensor, expert.tensor, gate.tensor, logits, mask});
  backend_->router_forward(at(probabilities), at(log_sum_exp), at(expert), at(gate), at(logits), at(mask));
  at.home();
}

void Mirror::assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
  const Journey at(*backend_, {requested.tensor, kept.tensor, slot.tensor, position.tensor, token.tensor, expert});
  backend_->assign_slots(at(requested), at(kept), at(slot), at(position), at(token), at(expert), shape, rule);
  at.home();
}

void Mirror::router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                           const RouterShape& shape, const RouterLoss& loss) {
  const Journey at(*backend_, {sums.tensor, probabilities, log_sum_exp, expert, requested});
  backend_->router_losses(at(sums), at(probabilities), at(log_sum_exp), at(expert), at(requested), shape, loss);
  at.home();
}

void Mirror::router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert,
                             const Tensor& requested, const RouterShape& shape, const RouterLoss& loss) {
  const Journey at(*backend_, {dlogits.tensor, dgate, probabilities, log_sum_exp, expert, requested});
  backend_->router_backward(at(dlogits), at(dgate), at(probabilities), at(log_sum_exp), at(expert), at(requested), shape, loss);
  at.home();
}

void Mirror::gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) {
  const Journey at(*backend_, {y.tensor, x, index, weight});
  backend_->gather_rows(at(y), at(x), at(index), at(weight));
  at.home();
}

void Mirror::row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) {
  const Journey at(*backend_, {d.tensor, a, b, index});
  backend_->row_dot(at(d), at(a), at(b), at(index));
  at.home();
}

void Mirror::quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) {
  const Journey at(*backend_, {payload.tensor, norms.tensor, x});
  backend_->quantise(at(payload), at(norms), at(x), format);
  at.home();
}

void Mirror::dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) {
  const Journey at(*backend_, {y.tensor, norms.tensor, payload});
  backend_->dequantise(at(y), at(norms), at(payload), format);
  at.home();
}

void Mirror::adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& options) {
  const Journey at(*backend_, {master, m, v, gradient});
  backend_->adamw(at(master), at(m), at(v), at(gradient), options);
  at.home();
}

void Mirror::sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& options) {
  const Journey at(*backend_, {master, momentum, gradient});
  backend_->sgd(at(master), at(momentum), at(gradient), options);
  at.home();
}

}  // namespace switchyard
