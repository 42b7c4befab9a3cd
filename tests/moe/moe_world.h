// A MoE layer with everything around it that a test needs: weights, inputs, a sink for gradients, ranks and lanes.
//
// Weights and inputs are functions of their names, so that ranks, precisions and the brute-force reference see the same.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "kernels/backend.h"
#include "src/moe/moe_layer.h"

namespace switchyard {

// A fixed standard normal number.
double noise(const std::string& what, int64_t index);

// " 3 0": what ends the names of things that belong to lane 3, accumulation 0.
std::string place_of(int lane, int accumulation);

using BackendFactory = std::function<std::unique_ptr<Backend>()>;

// One step of one MoE layer.
struct Case {
  MoeShape shape{.width = 6, .feed_forward = 10, .bias = false, .initializer_scale = 0.1};
  MoeOptions options{.experts = 4, .capacity_factor = 1.0, .min_capacity = 1};
  Precision precision = kPrecisionF64;
  int lanes = 8;
  int accumulate = 1;
  int replicas = 1;             // R
  int64_t tokens = 24;          // T
  int64_t sequence_length = 0;  // S; 0: the micro-batch is one sequence
  bool training = true;
  uint64_t seed = 7;
  BackendFactory backend = make_reference_backend;
  // 0 where token t of the lane is padding.
  std::function<int(int lane, int64_t t)> mask = [](int, int64_t) { return 1; };
  // Number of token t, for hash routing; below options.vocabulary.
  std::function<int(int lane, int64_t t)> token = [](int lane, int64_t t) { return static_cast<int>(lane * 5 + t * 3) % 17; };
  // What multiplies a weight's noise; row and column of the named parameter.
  std::function<double(const std::string& name, int64_t row, int64_t column)> weight_scale = [](const std::string&, int64_t, int64_t) { return 0.5; };

  // What multiplies token t's input.
  std::function<double(int64_t t)> x_scale = [](int64_t) { return 1; };
  // Sets what the router remembers of earlier steps.
  std::function<void(RouterState&)> remember = [](RouterState&) {};

  // Inputs and experts' weights are BF16 numbers and the router's are F32 numbers, whatever the precision: so that the
  // brute-force reference sees what a model in BF16 sees.
  double weight(const std::string& name, int64_t row, int64_t column, int64_t columns) const;
  double x(int lane, int accumulation, int64_t t, int64_t d) const;
  double dy(int lane, int accumulation, int64_t t, int64_t d) const;
  // Of the whole step.
  RouterLoss loss() const;
  // [T] what the layer is told about a micro-batch, in memory of ctx.saved.
  RoutingBatch batch(Context& ctx, int lane, int64_t tokens_here) const;
  int64_t sequence() const { return sequence_length == 0 ? tokens : sequence_length; }
  uint64_t first_token(int lane, int accumulation) const { return static_cast<uint64_t>((accumulation * lanes + lane) * tokens); }
};

// As a parameter of a test.
struct NamedCase {
  std::string name;
  Case c;
};
void PrintTo(const NamedCase& named, std::ostream* stream);

// 600 tokens on two experts, on the CPU: blocks of more than a panel, which chunks cut.
Case large_blocks(Precision precision, int64_t width);
// The same with a router that has losses of its own.
Case large_blocks_with_losses(Precision precision);

// Calls visit(add) for F32 and for BF16, where add(name) gives a case of that precision to be changed, named "<name>F32" or
// "<name>BF16".
using AddCase = std::function<Case&(const std::string& name)>;
std::vector<NamedCase> in_both_precisions(const std::function<Case(Precision)>& usual, const std::function<void(const AddCase& add)>& visit);

// Everything that a step computes, by name; F32 is widened, which keeps its bits apart.
//   "y 3 0", "dx 3 0"               of lane 3, accumulation 0: [T, D]
//   "sums 3 0", "counts 3 0"        the router's losses; requested, then kept, of each expert
//   "experts 3 0", "position 3 0", "gate 3 0"   [T]
//   "payload 3 0"                   lost and sent of each way, where one is to be compressed
//   "moe.router.weight 3 0"         the router's gradient from this lane and accumulation
//   "moe.expert.2.in.weight"        an expert's gradient, of the whole step; with "@1" behind it, that of its replica 1
using Result = std::map<std::string, std::vector<double>>;

std::vector<double> to_doubles(const Tensor& tensor);
void fill(const Tensor& tensor, const std::function<double(int64_t row, int64_t column)>& value);

// Memory of a layer's parameters on one rank.
class Weights {
 public:
  // Attaches and fills the dense parameters and those experts that the rank hosts.
  Weights(MoeLayer& layer, Backend& backend, const Case& c, const Grid& grid);
  // Sets the values of one parameter, in all its forms; row and column as in `value`.
  void set(const std::string& name, const std::function<double(int64_t row, int64_t column)>& value);
  Parameter& operator[](const std::string& name) { return *parameters_.at(name); }
  const std::map<std::string, Parameter*>& all() const { return parameters_; }

 private:
  Buffer& buffer(int64_t bytes);

  Backend& backend_;
  Precision precision_;
  std::map<std::string, Parameter*> parameters_;
  std::vector<Buffer> buffers_;
};

// Keeps gradients as the step does: an expert's over the whole step, a dense parameter's by lane and accumulation.
class Sink : public Gradients {
 public:
  explicit Sink(Dtype exact) : exact_(exact) {}
  void begin(const std::string& place) { place_ = place; }
  Target target(const Parameter& parameter) override { return target_of(key(parameter), parameter.shape); }
  Target expert_target(const Parameter& parameter, int replica) override {
    return target_of(parameter.name + (replica > 0 ? "@" + std::to_string(replica) : ""), parameter.shape);
  }
  void done(const Parameter& parameter) override;
  const std::map<std::string, Buffer>& buffers() const { return buffers_; }
  Tensor tensor(const std::string& key) const;
  const std::vector<std::string>& order() const { return order_; }  // of done()

 private:
  Target target_of(const std::string& name, const Shape& shape);
  std::string key(const Parameter& parameter) const { return parameter.kind == ParameterKind::kDense ? parameter.name + place_ : parameter.name; }

  Dtype exact_;
  std::string place_;
  std::map<std::string, Buffer> buffers_;
  std::map<std::string, Shape> shapes_;
  std::vector<std::string> order_;
};

// One rank with its layer.
struct Rank {
  Rank(const Case& c, Communicator& communicator);

  // Forward, and backward where `grads` is given, of one micro-batch; T = 0 for lanes that do not exist.
  void run(int lane, int accumulation, Result* result, Sink* sink);

  const Case& c;
  Grid grid;
  std::unique_ptr<Backend> backend;
  Arena saved{"saved"}, scratch{"scratch"};
  Trace trace;
  Context ctx;
  MoeLayer layer;
  Weights weights;
  MoeLayer::Saved kept;
};

// The step on `ranks` ranks that are threads.
Result run_step(const Case& c, int ranks);

// The names whose values differ in a bit, or are missing on one side; empty: equal.
std::string differences(const Result& a, const Result& b);

}  // namespace switchyard
