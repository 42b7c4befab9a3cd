// The backend for CPUs: activation F32 or BF16, exact F32. Products are oneDNN's, cut into panels by their shape alone;
// everything else is the vectorised loops of loops.h. README.md says how work is cut.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/matmul_engine.h"
#include "kernels/cpu/team.h"

namespace switchyard::cpu {

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, const Loops& loops) : loops_(loops), team_(threads), engine_(threads) {}

  std::string name() const override { return "cpu"; }
  Memory& memory() override { return host_memory(); }
  bool supports(Dtype activation) const override { return activation == Dtype::kF32 || activation == Dtype::kBF16; }

  // memory.cpp
  void zero(Out y) override;
  void copy_to_host(const Tensor& x, void* host) override;
  void copy_from_host(const void* host, Out y) override;

  // elementwise.cpp
  void convert(Target y, const Tensor& x) override;
  void add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) override;
  void dropout(Out y, const Tensor& x, const Dropout& dropout) override;
  void jitter(Target y, const Tensor& x, double epsilon, const Random& random) override;

  // sums.cpp
  void sum(Target total, const Tensor& x) override;
  void sum_of_squares(Target total, const Tensor& x) override;
  void sum_rows(Target y, const Tensor& x) override;

  // matmul.cpp
  int64_t packed_bytes(Dtype dtype, int64_t out, int64_t in, Side side) const override;
  void pack(PackedMatrix& packed, const Tensor& w) override;
  void multiply(std::span<const Product> products) override;
  // outer.cpp
  void multiply_outer(std::span<const OuterProduct> products) override;

  // activation.cpp
  void activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;
  void activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) override;

  // embedding.cpp
  void embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) override;
  void embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) override;

  // norm.cpp
  void norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) override;
  void norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                     const Norm& norm) override;

  // attention.cpp
  void attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) override;
  void attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp, const AttentionInputs& inputs,
                          const AttentionShape& shape) override;

  // relative_bias.cpp
  void relative_bias(Out bias, const Tensor& table, const Tensor& bucket) override;
  void relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) override;

  // cross_entropy.cpp
  void cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) override;

  // routing.cpp
  void router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) override;
  void assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) override;
  void router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& shape,
                     const RouterLoss& loss) override;
  void router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                       const RouterShape& shape, const RouterLoss& loss) override;

  // rows.cpp
  void gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) override;
  void row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) override;

  // payload.cpp
  void quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) override;
  void dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) override;

  // update.cpp
  void adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& options) override;
  void sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& options) override;

 private:
  // One call of the matrix library, and what it takes to make it (matmul.cpp).
  struct Panel {
    const Product* product;
    Matmul* matmul;
    int64_t first_row, rows, padded_rows;
    bool direct;  // the library writes into y itself
  };
  // Entries of one multiply_outer that share their dw (outer.cpp).
  struct OuterEntry {
    const OuterProduct* product;
    int64_t first_chunk, chunks;  // places of its packed x in chunks_
  };
  struct OuterChunk {  // a run of an entry's rows
    const OuterProduct* product;
    const PackLayout* layout;
    int64_t first_row, rows;
    int64_t offset;  // of the packed x in shared_
  };
  struct OuterGroup {
    Target dw;
    std::vector<OuterEntry> entries;
  };

  void plan_panels(const Product& product);
  void run_panel(const Panel& panel, int thread);
  Epilogue epilogue_of(const Product& product, int64_t first_row, int64_t rows) const;
  void run_outer(std::span<const OuterGroup> groups);
  void outer_panel(const OuterGroup& group, int64_t first, int64_t rows, int thread);
  void add_totals(const Target& total, const Tensor& x, bool squares);

  const Loops& loops_;
  Team team_;
  mutable MatmulEngine engine_;
  Buffer shared_;                   // scratch that all threads read
  std::vector<Panel> panels_;       // of the multiply at hand
  std::vector<OuterChunk> chunks_;  // of the multiply_outer at hand
  std::vector<double> partials_;
};

}  // namespace switchyard::cpu
