// The backend for NVIDIA's GPUs: activation F32 or BF16, exact F32. Products are cuBLASLt's with algorithms fixed by what bits
// may depend on; everything else is the kernels of this folder. README.md says how work is cut.
//
// Operations are put into the device's compute stream and return at once; copy_to_host waits. Tensors are the device's.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

class Products;  // matmul.h

class CudaBackend final : public Backend {
 public:
  // The Gpu outlives the backend.
  explicit CudaBackend(Gpu& gpu);
  ~CudaBackend() override;

  std::string name() const override { return "cuda"; }
  Memory& memory() override { return gpu_.memory(); }
  bool supports(Dtype activation) const override { return activation == Dtype::kF32 || activation == Dtype::kBF16; }

  // memory.cu
  void zero(Out y) override;
  void copy_to_host(const Tensor& x, void* host) override;
  void copy_from_host(const void* host, Out y) override;

  // elementwise.cu
  void convert(Target y, const Tensor& x) override;
  void add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) override;
  void dropout(Out y, const Tensor& x, const Dropout& dropout) override;
  void jitter(Target y, const Tensor& x, double epsilon, const Random& random) override;

  // sums.cu
  void sum(Target total, const Tensor& x) override;
  void sum_of_squares(Target total, const Tensor& x) override;
  void sum_rows(Target y, const Tensor& x) override;

  // matmul.cu
  int64_t packed_bytes(Dtype dtype, int64_t out, int64_t in, Side side) const override;
  void pack(PackedMatrix& packed, const Tensor& w) override;
  void multiply(std::span<const Product> products) override;
  // outer.cu
  void multiply_outer(std::span<const OuterProduct> products) override;

  // activation.cu
  void activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;
  void activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;

  // embedding.cu
  void embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) override;
  void embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) override;

  // norm.cu
  void norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) override;
  void norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                     const Norm& norm) override;

  // attention.cu
  void attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) override;
  void attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp, const AttentionInputs& inputs,
                          const AttentionShape& shape) override;

  // relative_bias.cu
  void relative_bias(Out bias, const Tensor& table, const Tensor& bucket) override;
  void relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) override;

  // cross_entropy.cu
  void cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) override;

  // routing.cu
  void router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) override;
  void assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) override;
  void router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& shape,
                     const RouterLoss& loss) override;
  void router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                       const RouterShape& shape, const RouterLoss& loss) override;

  // rows.cu
  void gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) override;
  void row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) override;

  // payload.cu
  void quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) override;
  void dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) override;

  // update.cu
  void adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& options) override;
  void sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& options) override;

 private:
  cudaStream_t stream() const { return gpu_.compute(); }
  void add_totals(const Target& total, const Tensor& x, bool squares);  // sums.cu

  Gpu& gpu_;
  Workspace workspace_;  // partial results of the operation at hand
  std::unique_ptr<Products> products_;
};

}  // namespace switchyard::cuda
