// Parameters and gradients for tests of layers and models: memory for every parameter of one rank, and a plain sink.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard::test {

// Normal numbers that depend on (seed, index) alone.
inline double draw_normal(uint64_t seed, int64_t index) {
  const Random random(seed, Purpose::kSampling, 0, 0, 0);
  const Philox4 words = random.words(static_cast<uint64_t>(index), 0);
  return normal_from(words[0], words[1]);
}

inline void set(const Tensor& tensor, int64_t index, double value) {
  switch (tensor.dtype()) {
    case Dtype::kF64: tensor.get<double>()[index] = value; break;
    case Dtype::kF32: tensor.get<float>()[index] = static_cast<float>(value); break;
    case Dtype::kBF16: tensor.get<BFloat16>()[index] = BFloat16(static_cast<float>(value)); break;
    case Dtype::kI32: tensor.get<int32_t>()[index] = static_cast<int32_t>(value); break;
  }
}

inline double get(const Tensor& tensor, int64_t index) {
  switch (tensor.dtype()) {
    case Dtype::kF64: return tensor.get<double>()[index];
    case Dtype::kF32: return static_cast<double>(tensor.get<float>()[index]);
    case Dtype::kBF16: return static_cast<double>(tensor.get<BFloat16>()[index]);
    case Dtype::kI32: return tensor.get<int32_t>()[index];
  }
  return 0;
}

inline void fill_normal(const Tensor& tensor, uint64_t seed, double deviation = 1) {
  for (int64_t i = 0; i < tensor.elements(); ++i) set(tensor, i, deviation * draw_normal(seed, i));
}

inline double dot(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.elements(), b.elements());
  double total = 0;
  for (int64_t i = 0; i < a.elements(); ++i) total += get(a, i) * get(b, i);
  return total;
}

// |a - b| / |b| in the 2-norm; 0 where they are equal.
inline double distance(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.elements(), b.elements());
  double difference = 0, size = 0;
  for (int64_t i = 0; i < b.elements(); ++i) {
    const double d = get(a, i) - get(b, i);
    difference += d * d;
    size += get(b, i) * get(b, i);
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.elements() == b.elements() && std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) == 0;
}

// Masters in the exact dtype, and every form that layers read. After changing a master, publish it.
class TestStore {
 public:
  TestStore(Backend& backend, const Precision& precision) : backend_(backend), precision_(precision) {}

  void add(Parameter& parameter) {
    Entry entry;
    entry.master = make_buffer(precision_.exact, parameter.shape);
    const Forms& forms = parameter.forms;
    if (forms.plain_weight || forms.plain_exact) {
      const Dtype dtype = forms.plain_exact ? precision_.exact : precision_.weight;
      entry.plain = make_buffer(dtype, parameter.shape);
      parameter.plain = entry.plain.tensor(dtype, parameter.shape);
    }
    if (forms.packed_forward) entry.forward = make_packed(parameter, Side::kForward, parameter.forward);
    if (forms.packed_backward) entry.backward = make_packed(parameter, Side::kBackward, parameter.backward);
    parameters_.push_back(&parameter);
    entries_.emplace(&parameter, std::move(entry));
  }
  ParameterVisitor visitor() {
    return [this](Parameter& parameter) { add(parameter); };
  }

  Tensor master(const Parameter& parameter) const { return entries_.at(&parameter).master.tensor(precision_.exact, parameter.shape); }
  const std::vector<Parameter*>& parameters() const { return parameters_; }

  void publish(Parameter& parameter) {
    const Tensor values = master(parameter);
    if (parameter.plain.exists()) backend_.convert(Out(parameter.plain), values);
    if (parameter.forward.storage.exists()) backend_.pack(parameter.forward, values);
    if (parameter.backward.storage.exists()) backend_.pack(parameter.backward, values);
  }
  void publish() {
    for (Parameter* parameter : parameters_) publish(*parameter);
  }

  // Values at which every path of a layer carries a gradient of ordinary size.
  void fill(uint64_t seed) {
    for (Parameter* parameter : parameters_) {
      const Tensor values = master(*parameter);
      const bool vector = parameter->shape.rank() == 1;
      const double deviation = vector ? 0.2 : 1 / std::sqrt(static_cast<double>(parameter->columns()));
      fill_normal(values, seed ^ hash_name(parameter->name.c_str()), deviation);
      const double middle = parameter->initializer.kind == Initializer::Kind::kOne ? 1 : 0;
      for (int64_t i = 0; i < values.elements(); ++i) set(values, i, get(values, i) + middle);
    }
    publish();
  }

 private:
  struct Entry {
    Buffer master, plain, forward, backward;
  };

  Buffer make_packed(const Parameter& parameter, Side side, PackedMatrix& packed) {
    const Dtype dtype = parameter.forms.packed_exact ? precision_.exact : precision_.weight;
    packed = {.storage = {}, .dtype = dtype, .out = parameter.shape[0], .in = parameter.shape[1], .side = side};
    const int64_t words = (backend_.packed_bytes(dtype, packed.out, packed.in, side) + 3) / 4;
    Buffer buffer = make_buffer(Dtype::kI32, {words});
    packed.storage = buffer.tensor(Dtype::kI32, {words});
    return buffer;
  }

  Backend& backend_;
  Precision precision_;
  std::vector<Parameter*> parameters_;
  std::map<const Parameter*, Entry> entries_;
};

// Gradients of one micro-batch (dense) or of one step (experts), in memory of their own.
class TestGradients : public Gradients {
 public:
  explicit TestGradients(Dtype exact) : exact_(exact) {}

  Target target(const Parameter& parameter) override {
    Entry& entry = entry_of(parameter);
    const bool first = !entry.asked;
    entry.asked = true;
    return {entry.buffer.tensor(exact_, parameter.shape), !first};
  }
  Target expert_target(const Parameter& parameter, int) override { return target(parameter); }
  void done(const Parameter& parameter) override {
    EXPECT_EQ(parameter.kind, ParameterKind::kDense) << parameter.name << ": done() is for dense parameters";
    Entry& entry = entry_of(parameter);
    EXPECT_TRUE(entry.asked) << parameter.name << ": done without a target";
    if (++entry.uses == parameter.uses) closed_.push_back(parameter.name);
    EXPECT_LE(entry.uses, parameter.uses) << parameter.name << ": used more often than registered";
  }
  // The next micro-batch: dense gradients start again.
  void begin() {
    entries_.clear();
    closed_.clear();
  }

  Tensor gradient(const Parameter& parameter) { return entry_of(parameter).buffer.tensor(exact_, parameter.shape); }
  // Names of dense parameters in the order in which they were closed.
  const std::vector<std::string>& closed() const { return closed_; }

 private:
  struct Entry {
    Buffer buffer;
    bool asked = false;
    int uses = 0;
  };
  Entry& entry_of(const Parameter& parameter) {
    Entry& entry = entries_[&parameter];
    if (entry.buffer.bytes() == 0) {
      entry.buffer = make_buffer(exact_, parameter.shape);
      const Tensor tensor = entry.buffer.tensor(exact_, parameter.shape);
      // An Out must be overwritten, not added to: what is there before is not zero.
      for (int64_t i = 0; i < tensor.elements(); ++i) set(tensor, i, parameter.kind == ParameterKind::kDense ? 1e6 : 0);
    }
    return entry;
  }

  Dtype exact_;
  std::map<const Parameter*, Entry> entries_;
  std::vector<std::string> closed_;
};

// A rank of its own, to run layers on: backend, arenas, context.
struct Bench {
  explicit Bench(Precision precision = kPrecisionF64, std::unique_ptr<Backend> made = make_reference_backend())
      : backend(std::move(made)), ctx{.backend = *backend, .saved = saved, .scratch = scratch, .precision = precision, .trace = trace, .key = {}} {
    ctx.key.seed = 11;
    ctx.key.step = 3;
  }

  // Memory that lives as long as the bench.
  Tensor tensor(Dtype dtype, const Shape& shape) {
    buffers.push_back(make_buffer(dtype, shape));
    return buffers.back().tensor(dtype, shape);
  }
  Tensor normal(const Shape& shape, uint64_t seed, double deviation = 1) {
    const Tensor result = tensor(ctx.precision.activation, shape);
    fill_normal(result, seed, deviation);
    return result;
  }
  Tensor integers(const std::vector<int32_t>& values) {
    const Tensor result = tensor(Dtype::kI32, {static_cast<int64_t>(values.size())});
    if (!values.empty()) std::memcpy(result.data(), values.data(), values.size() * sizeof(int32_t));
    return result;
  }
  Tensor copy(const Tensor& x) {
    const Tensor result = tensor(x.dtype(), x.shape());
    if (x.bytes() > 0) std::memcpy(result.data(), x.data(), static_cast<size_t>(x.bytes()));
    return result;
  }

  std::unique_ptr<Backend> backend;
  Arena saved{"saved"}, scratch{"scratch"};
  Trace trace;
  std::vector<Buffer> buffers;
  Context ctx;
};

}  // namespace switchyard::test
