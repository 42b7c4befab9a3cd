// Mirror: a backend on the host whose work is done by one elsewhere. Each operation takes its operands there, runs, and brings
// the results back, so that tests of operations need not know of a device.
//
// What lies between the rows of a strided tensor goes and comes back with them: a kernel that writes there is seen. Operands
// that overlap on the host overlap there, and lie at addresses that are the same modulo 64.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace switchyard {

class Mirror final : public Backend {
 public:
  explicit Mirror(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  std::string name() const override { return backend_->name(); }
  Memory& memory() override { return host_memory(); }
  bool supports(Dtype activation) const override { return backend_->supports(activation); }

  void zero(Out y) override;
  void copy_to_host(const Tensor& x, void* host) override;
  void copy_from_host(const void* host, Out y) override;

  void convert(Target y, const Tensor& x) override;
  void add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) override;
  void dropout(Out y, const Tensor& x, const Dropout& dropout) override;
  void jitter(Target y, const Tensor& x, double epsilon, const Random& random) override;

  void sum(Target total, const Tensor& x) override;
  void sum_of_squares(Target total, const Tensor& x) override;
  void sum_rows(Target y, const Tensor& x) override;

  int64_t packed_bytes(Dtype dtype, int64_t out, int64_t in, Side side) const override { return backend_->packed_bytes(dtype, out, in, side); }
  void pack(PackedMatrix& packed, const Tensor& w) override;
  void multiply(std::span<const Product> products) override;
  void multiply_outer(std::span<const OuterProduct> products) override;

  void activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;
  void activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;

  void embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) override;
  void embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) override;

  void norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) override;
  void norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                     const Norm& norm) override;

  void attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) override;
  void attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp, const AttentionInputs& inputs,
                          const AttentionShape& shape) override;

  void relative_bias(Out bias, const Tensor& table, const Tensor& bucket) override;
  void relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) override;

  void cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) override;

  void router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) override;
  void assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) override;
  void router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& shape,
                     const RouterLoss& loss) override;
  void router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                       const RouterShape& shape, const RouterLoss& loss) override;

  void gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) override;
  void row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) override;

  void quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) override;
  void dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) override;

  void adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& options) override;
  void sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& options) override;

 private:
  std::shared_ptr<Backend> backend_;
};

}  // namespace switchyard
