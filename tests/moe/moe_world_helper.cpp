#include <fmt/format.h>

#include <cstring>
#include <mutex>
#include <ostream>

#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {

std::string place_of(int lane, int accumulation) { return fmt::format(" {} {}", lane, accumulation); }

double noise(const std::string& what, int64_t index) {
  const Philox4 words = Random(1, Purpose::kSampling, 0, 0, hash_name(what.c_str())).words(0, static_cast<uint32_t>(index));
  return normal_from(words[0], words[1]);
}

void PrintTo(const NamedCase& named, std::ostream* stream) { *stream << named.name; }

Case large_blocks(Precision precision, int64_t width) {
  Case c;
  c.backend = [] { return make_cpu_backend(1); };
  c.precision = precision;
  c.shape = {.width = width, .feed_forward = 40, .bias = true, .initializer_scale = 0.1};
  c.lanes = 4;
  c.tokens = 600;
  c.options.experts = 2;
  c.options.expert_dropout = 0.2;
  c.mask = [](int lane, int64_t t) { return t % (lane + 5) == 1 ? 0 : 1; };
  return c;
}

Case large_blocks_with_losses(Precision precision) {
  Case c = large_blocks(precision, 24);
  c.options.z_loss = 0.03;
  c.options.balance_loss = 0.2;
  return c;
}

std::vector<NamedCase> in_both_precisions(const std::function<Case(Precision)>& usual, const std::function<void(const AddCase& add)>& visit) {
  std::vector<NamedCase> all;
  for (const auto& [suffix, precision] : {std::pair{"F32", kPrecisionF32}, {"BF16", kPrecisionBF16}}) {
    visit([&, &suffix = suffix, &precision = precision](const std::string& name) -> Case& {
      return all.emplace_back(NamedCase{name + suffix, usual(precision)}).c;
    });
  }
  return all;
}

static double in_bf16(double value) { return static_cast<double>(BFloat16(static_cast<float>(value))); }

double Case::x(int lane, int accumulation, int64_t t, int64_t d) const {
  return in_bf16(x_scale(t) * noise(place_of(lane, accumulation) + " x", t * shape.width + d));
}

double Case::dy(int lane, int accumulation, int64_t t, int64_t d) const { return in_bf16(noise(place_of(lane, accumulation) + " dy", t * shape.width + d)); }

double Case::weight(const std::string& name, int64_t row, int64_t column, int64_t columns) const {
  const double value = weight_scale(name, row, column) * noise(name, row * columns + column);
  return name == "moe.router.weight" ? static_cast<double>(static_cast<float>(value)) : in_bf16(value);
}

RouterLoss Case::loss() const {
  const int64_t size = group_tokens_of(options, tokens);
  int64_t groups = 0, counted = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    for (int64_t first = 0; first < tokens; first += size) {
      int64_t of_group = 0;
      for (int64_t t = first; t < std::min(first + size, tokens); ++t) of_group += mask(lane, t) != 0;
      counted += of_group;
      groups += of_group > 0;
    }
  }
  return router_loss(options, groups * accumulate, counted * accumulate, 1);
}

RoutingBatch Case::batch(Context& ctx, int lane, int64_t tokens_here) const {
  const Tensor masks = ctx.keep(Dtype::kI32, {tokens_here}), numbers = ctx.keep(Dtype::kI32, {tokens_here});
  fill(masks, [&](int64_t t, int64_t) { return mask(lane, t); });
  fill(numbers, [&](int64_t t, int64_t) { return token(lane, t); });
  return {.mask = masks, .tokens = numbers, .sequence_length = sequence(), .loss = loss()};
}

std::vector<double> to_doubles(const Tensor& tensor) {
  std::vector<double> values;
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.columns(); ++c) {
      switch (tensor.dtype()) {
        case Dtype::kF64: values.push_back(tensor.row<double>(r)[c]); break;
        case Dtype::kF32: values.push_back(static_cast<double>(tensor.row<float>(r)[c])); break;
        case Dtype::kBF16: values.push_back(static_cast<double>(tensor.row<BFloat16>(r)[c])); break;
        case Dtype::kI32: values.push_back(tensor.row<int32_t>(r)[c]); break;
      }
    }
  }
  return values;
}

void fill(const Tensor& tensor, const std::function<double(int64_t row, int64_t column)>& value) {
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.columns(); ++c) {
      const double number = value(r, c);
      switch (tensor.dtype()) {
        case Dtype::kF64: tensor.row<double>(r)[c] = number; break;
        case Dtype::kF32: tensor.row<float>(r)[c] = static_cast<float>(number); break;
        case Dtype::kBF16: tensor.row<BFloat16>(r)[c] = BFloat16(static_cast<float>(number)); break;
        case Dtype::kI32: tensor.row<int32_t>(r)[c] = static_cast<int32_t>(number); break;
      }
    }
  }
}

Weights::Weights(MoeLayer& layer, Backend& backend, const Case& c, const Grid& grid) : backend_(backend), precision_(c.precision) {
  layer.visit([&](Parameter& parameter) {
    bool here = parameter.kind == ParameterKind::kDense;
    for (int replica = 0; replica < c.replicas && !here; ++replica) {
      here = grid.owner(parameter.moe_layer, parameter.expert, c.options.experts, replica) == grid.rank();
    }
    if (!here) return;
    parameters_[parameter.name] = &parameter;
    if (parameter.forms.plain_exact) {
      parameter.plain = Tensor(buffer(parameter.shape.elements() * size_of(precision_.exact)).data(), precision_.exact, parameter.shape);
    }
    const Dtype dtype = parameter.forms.packed_exact ? precision_.exact : precision_.weight;
    const auto attach = [&](PackedMatrix& packed, Side side) {
      packed = {Tensor(), dtype, parameter.rows(), parameter.columns(), side};
      const int64_t bytes = backend_.packed_bytes(dtype, packed.out, packed.in, side);
      packed.storage = Tensor(buffer(bytes).data(), Dtype::kI32, {(bytes + 3) / 4});
    };
    if (parameter.forms.packed_forward) attach(parameter.forward, Side::kForward);
    if (parameter.forms.packed_backward) attach(parameter.backward, Side::kBackward);
    set(parameter.name, [&](int64_t row, int64_t column) { return c.weight(parameter.name, row, column, parameter.columns()); });
  });
}

Buffer& Weights::buffer(int64_t bytes) { return buffers_.emplace_back(bytes + 64); }

void Weights::set(const std::string& name, const std::function<double(int64_t row, int64_t column)>& value) {
  Parameter& parameter = *parameters_.at(name);
  const Buffer memory = make_buffer(precision_.exact, parameter.shape);
  const Tensor master = memory.tensor(precision_.exact, {parameter.rows(), parameter.columns()});
  fill(master, value);
  if (parameter.plain.exists()) std::memcpy(parameter.plain.data(), master.data(), static_cast<size_t>(master.bytes()));
  if (parameter.forward.storage.exists()) backend_.pack(parameter.forward, master);
  if (parameter.backward.storage.exists()) backend_.pack(parameter.backward, master);
}

Target Sink::target_of(const std::string& name, const Shape& shape) {
  const bool first = buffers_.find(name) == buffers_.end();
  if (first) {
    buffers_[name] = make_buffer(exact_, shape);
    shapes_[name] = shape;
    fill(tensor(name), [](int64_t, int64_t) { return 1e9; });  // what an Out must overwrite
  }
  return {tensor(name), !first};
}

void Sink::done(const Parameter& parameter) {
  check(parameter.kind == ParameterKind::kDense, "Sink: done() is for dense parameters");
  order_.push_back(parameter.name);
}

Tensor Sink::tensor(const std::string& key) const { return buffers_.at(key).tensor(exact_, shapes_.at(key)); }

Rank::Rank(const Case& the_case, Communicator& communicator)
    : c(the_case),
      grid(communicator.rank(), communicator.size(), the_case.lanes, the_case.replicas),
      backend(the_case.backend()),
      ctx{*backend, saved, scratch, the_case.precision, trace, Key(), the_case.training, nullptr},
      layer("moe", 3, the_case.shape, the_case.options, communicator, grid),
      weights(layer, *backend, the_case, grid) {
  ctx.key.seed = the_case.seed;
  c.remember(layer.router_state());
}

void Rank::run(int lane, int accumulation, Result* result, Sink* sink) {
  const Arena::Mark saved_mark(saved), scratch_mark(scratch);
  const bool empty = lane >= c.lanes;
  const int64_t tokens = empty ? 0 : c.tokens;
  ctx.key.lane = lane;
  ctx.key.accumulation = accumulation;
  ctx.key.first_token = c.first_token(lane, accumulation);
  const Tensor x = ctx.keep(c.precision.activation, {tokens, c.shape.width});
  fill(x, [&](int64_t t, int64_t d) { return c.x(lane, accumulation, t, d); });
  const Tensor y = layer.forward(ctx, x, c.batch(ctx, lane, tokens), kept);

  const std::string place = place_of(lane, accumulation);
  if (result != nullptr && !empty) {
    const RouterStatistics& statistics = kept.statistics();
    (*result)["y" + place] = to_doubles(y);
    (*result)["sums" + place] = {statistics.sums.begin(), statistics.sums.end()};
    std::vector<double>& counts = (*result)["counts" + place];
    counts.assign(statistics.requested.begin(), statistics.requested.end());
    counts.insert(counts.end(), statistics.kept.begin(), statistics.kept.end());
    (*result)["experts" + place] = to_doubles(kept.route().expert);
    if (kept.route().gate.exists()) (*result)["gate" + place] = to_doubles(kept.route().gate);
    (*result)["position" + place] = to_doubles(kept.route().position);
  }
  if (sink == nullptr) return;
  sink->begin(place);
  const Tensor dy = ctx.temporary(c.precision.activation, x.shape());
  fill(dy, [&](int64_t t, int64_t d) { return c.dy(lane, accumulation, t, d); });
  const Tensor dx = layer.backward(ctx, dy, kept, *sink);
  if (result == nullptr || empty) return;
  (*result)["dx" + place] = to_doubles(dx);
  if (!c.options.payload.any()) return;
  for (const PayloadLoss& loss : kept.payload.way) {
    for (const double squares : {loss.lost, loss.sent}) (*result)["payload" + place].push_back(squares);
  }
}

Result run_step(const Case& c, int ranks) {
  Result all;
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Sink sink(c.precision.exact);
    Result mine;
    for (int a = 0; a < c.accumulate; ++a) {
      for (int lane = communicator.rank(); lane < rank.grid.lanes_rounded_up(); lane += communicator.size()) rank.run(lane, a, &mine, &sink);
    }
    for (const auto& [name, buffer] : sink.buffers()) {
      const bool of_empty_lane = name.find(' ') != std::string::npos && std::stoi(name.substr(name.find(' '))) >= c.lanes;
      if (!of_empty_lane) mine[name] = to_doubles(sink.tensor(name));
    }
    const std::lock_guard<std::mutex> lock(mutex);
    all.insert(mine.begin(), mine.end());
  });
  return all;
}

std::string differences(const Result& a, const Result& b) {
  std::string names;
  for (const auto& [name, values] : a) {
    const auto other = b.find(name);
    const bool equal =
        other != b.end() && other->second.size() == values.size() && std::memcmp(values.data(), other->second.data(), values.size() * sizeof(double)) == 0;
    if (!equal) names += (names.empty() ? "" : ", ") + name;
  }
  for (const auto& [name, values] : b) {
    if (a.find(name) == a.end()) names += ", only on one side: " + name;
  }
  return names;
}

}  // namespace switchyard
