// The store: the same masters, forms and sums for every number of ranks.
#include "src/train/parameter_store.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>

#include "src/checkpoint/digest.h"
#include "src/train/gradient_sink.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

// A table that is read plain and packed, a vector, a matrix of several blocks, and five experts of one layer.
std::deque<Parameter> example() {
  std::deque<Parameter> parameters;
  const auto add = [&](const char* name, Shape shape, Initializer initializer, Forms forms) -> Parameter& {
    parameters.emplace_back();
    parameters.back().name = name;
    parameters.back().shape = shape;
    parameters.back().initializer = initializer;
    parameters.back().forms = forms;
    return parameters.back();
  };
  const Initializer normal{Initializer::Kind::kNormal, 0.5}, truncated{Initializer::Kind::kTruncatedNormal, 0.1};
  add("table", {40, 12}, normal, {.plain_weight = true, .packed_forward = true, .packed_backward = true}).uses = 2;
  add("scale", {12}, {Initializer::Kind::kOne, 0}, {.plain_exact = true});
  add("matrix", {300, 1000}, truncated, {.packed_forward = true, .packed_backward = true});
  for (int e = 0; e < 5; ++e) {
    Parameter& expert = add(("expert." + std::to_string(e)).c_str(), {8, 12}, truncated, {.packed_forward = true, .packed_backward = true});
    expert.kind = ParameterKind::kExpert;
    expert.moe_layer = 0;
    expert.expert = e;
  }
  return parameters;
}

ParameterStore::Visit visiting(std::deque<Parameter>& parameters) {
  return [&](const ParameterVisitor& visitor) {
    for (Parameter& parameter : parameters) visitor(parameter);
  };
}

constexpr OutboxSizes kSizes{0, 8 << 20};

TEST(ParameterStore, InitialWeightsDoNotDependOnRanksOrThreads) {
  std::map<int, std::string> digests;
  std::mutex mutex;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    run_ranks(
        ranks,
        [&](Communicator& communicator) {
          std::deque<Parameter> parameters = example();
          const Grid grid(communicator.rank(), ranks, 8);
          const auto backend = make_reference_backend();
          ParameterStore store(*backend, grid, {.precision = kPrecisionF32, .moments = 2}, visiting(parameters));
          store.initialise(7, 1 + ranks % 2);
          const std::string digest = state_digest(communicator, store.state({"m", "v"}));
          const std::lock_guard lock(mutex);
          digests[ranks] = digest;
        },
        {.sizes = kSizes});
  }
  for (const auto& [ranks, digest] : digests) EXPECT_EQ(digest, digests.at(1)) << ranks << " ranks";
}

TEST(ParameterStore, EveryBlockHasOneOwnerAndExpertsStayWhole) {
  for (const int ranks : {1, 3, 8}) {
    std::deque<Parameter> parameters = example();
    const auto backend = make_reference_backend();
    int64_t owned = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const Grid grid(rank, ranks, 8);
      ParameterStore store(*backend, grid, {.precision = kPrecisionF32, .moments = 1}, visiting(parameters));
      owned += store.owned_elements();
      for (const PlacedBlock& block : store.blocks()) {
        EXPECT_EQ(block.owner == rank, block.owned_index >= 0) << block.parameter->name;
        if (block.parameter->kind != ParameterKind::kExpert) continue;
        EXPECT_EQ(block.owner, grid.owner(0, block.parameter->expert, 5)) << block.parameter->name;
      }
      if (rank + 1 < ranks) continue;
      EXPECT_EQ(owned, store.elements());
    }
  }
}

TEST(ParameterStore, PublishedFormsHoldTheRoundedMastersOnEveryRank) {
  std::map<std::string, std::vector<float>> expected;
  std::mutex mutex;
  // With few bytes in a bucket the values of replicas come in several.
  for (const auto& [ranks, replicas, bucket_bytes] : {std::tuple{1, 1, 4096}, {2, 1, 4096}, {3, 1, 4096}, {2, 2, 500}, {3, 2, 4096}, {4, 3, 500}}) {
    run_ranks(
        ranks,
        [&, ranks = ranks, replicas = replicas, bucket_bytes = bucket_bytes](Communicator& communicator) {
          std::deque<Parameter> parameters = example();
          const Grid grid(communicator.rank(), ranks, 8, replicas);
          const auto backend = make_reference_backend();
          Trace trace;
          ParameterStore store(*backend, grid, {.precision = kPrecisionF32, .bucket_bytes = bucket_bytes}, visiting(parameters));
          store.initialise(7, 1);
          store.publish(communicator, trace);
          for (const Parameter& parameter : parameters) {
            if (!parameter.hosted()) continue;
            std::vector<float> values;
            if (parameter.plain.exists()) {
              values.assign(parameter.plain.get<float>(), parameter.plain.get<float>() + parameter.shape.elements());
            } else {
              // Read the packed matrix back by multiplying the identity with it.
              const int64_t in = parameter.shape[1];
              Buffer identity = make_buffer(Dtype::kF32, {in, in}), product = make_buffer(Dtype::kF32, {in, parameter.shape[0]});
              const Tensor x = identity.tensor(Dtype::kF32, {in, in}), y = product.tensor(Dtype::kF32, {in, parameter.shape[0]});
              for (int64_t i = 0; i < in; ++i) x.row<float>(i)[i] = 1;
              const Product multiply{.x = x, .matrix = &parameter.forward, .y = Out(y)};
              backend->multiply({&multiply, 1});
              values.assign(y.get<float>(), y.get<float>() + y.elements());
            }
            const std::lock_guard lock(mutex);
            const auto place = expected.emplace(parameter.name, values).first;
            EXPECT_EQ(place->second, values) << parameter.name << " on rank " << communicator.rank() << " of " << ranks;
          }
        },
        {.sizes = kSizes});
  }
  EXPECT_EQ(expected.size(), 8u);
}

TEST(ParameterStore, TruncatedInitialValuesStayWithinTwoDeviations) {
  std::deque<Parameter> parameters = example();
  const Grid grid(0, 1, 1);
  const auto backend = make_reference_backend();
  ParameterStore store(*backend, grid, {.precision = kPrecisionF64}, visiting(parameters));
  store.initialise(3, 1);
  for (const PlacedBlock& block : store.blocks()) {
    if (block.parameter->name != "matrix") continue;
    const Tensor& master = store.owned()[static_cast<size_t>(block.owned_index)].master;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < master.elements(); ++i) {
      const double value = master.get<double>()[i];
      ASSERT_LE(std::abs(value), 0.2);
      sum += value;
      squares += value * value;
    }
    const double count = static_cast<double>(master.elements());
    EXPECT_NEAR(sum / count, 0, 5 * 0.088 / std::sqrt(count));
    EXPECT_NEAR(std::sqrt(squares / count), 0.8796 * 0.1, 0.001) << "switch.md 2.8: a truncated normal keeps 0.8796 of its deviation";
  }
}

double term(int accumulation, int lane) { return std::pow(-1.7, accumulation + 1) * 1e3 / (lane + 1) + 1e-4 * lane; }

// A backward pass that only its sink sees: terms that name lane, accumulation and use.
void play_backward(GradientSink& sink, std::deque<Parameter>& parameters, const Grid& grid, int accumulate) {
  const auto add = [](const Target& target, double value) {
    for (int64_t i = 0; i < target.tensor.elements(); ++i) {
      float& slot = target.tensor.get<float>()[i];
      slot = (target.add ? slot : 0.0f) + static_cast<float>(value * (1.0 + 1e-3 * static_cast<double>(i % 17)));
    }
  };
  for (int a = 0; a < accumulate; ++a) {
    for (int w = grid.rank(); w < grid.lanes_rounded_up(); w += grid.size()) {
      sink.begin(a, w);
      for (auto parameter = parameters.rbegin(); parameter != parameters.rend(); ++parameter) {
        if (parameter->kind == ParameterKind::kExpert) {
          if (parameter->expert == 4) continue;  // nobody chose expert 4
          for (int lane = w - grid.rank(); lane < std::min(grid.lanes(), w - grid.rank() + grid.size()); ++lane) {
            const int replica = grid.replica(lane);
            if (grid.owner(0, parameter->expert, 5, replica) == grid.rank()) add(sink.expert_target(*parameter, replica), term(a, lane));
          }
          continue;
        }
        for (int use = 0; use < parameter->uses; ++use) {
          add(sink.target(*parameter), w < grid.lanes() ? term(a, w) * (use + 1) : 1e30);
          sink.done(*parameter);
        }
      }
      sink.end();
    }
  }
  sink.finish();
}

// Bytes of a bucket, so that there are one or many of them: an expert of the example has 384.
class SinkOfReplicas : public testing::TestWithParam<std::tuple<int, int64_t>> {};

TEST_P(SinkOfReplicas, SumsDoNotDependOnRanks) {
  const auto [replicas, bucket_bytes] = GetParam();
  for (const int accumulate : {1, 3}) {
    std::map<int, std::string> digests;
    std::mutex mutex;
    for (const int ranks : {1, 2, 3, 4, 5}) {
      run_ranks(
          ranks,
          [&, replicas = replicas, bucket_bytes = bucket_bytes](Communicator& communicator) {
            std::deque<Parameter> parameters = example();
            const Grid grid(communicator.rank(), ranks, 5, replicas);
            const auto backend = make_reference_backend();
            Trace trace;
            ParameterStore store(*backend, grid, {.precision = kPrecisionF32, .bucket_bytes = bucket_bytes}, visiting(parameters));
            GradientSink sink(*backend, communicator, grid, trace, store, accumulate, Dtype::kF32);
            for (int step = 0; step < 2; ++step) play_backward(sink, parameters, grid, accumulate);
            const std::string digest = state_digest(communicator, store.gradient_state());
            const std::lock_guard lock(mutex);
            digests[ranks] = digest;
          },
          {.sizes = kSizes});
    }
    for (const auto& [ranks, digest] : digests) EXPECT_EQ(digest, digests.at(1)) << ranks << " ranks, " << accumulate << " accumulations";
  }
}

INSTANTIATE_TEST_SUITE_P(All, SinkOfReplicas, testing::Combine(testing::Values(1, 2, 3, 5), testing::Values(300, 1000, 4096)));

TEST(GradientSink, AddsTheLanesOfAReplicaThenTheReplicas) {
  constexpr int kLanes = 5, kReplicas = 3, kAccumulate = 2;
  for (const int ranks : {1, 3}) {
    run_ranks(
        ranks,
        [&](Communicator& communicator) {
          std::deque<Parameter> parameters = example();
          const Grid grid(communicator.rank(), ranks, kLanes, kReplicas);
          const auto backend = make_reference_backend();
          Trace trace;
          ParameterStore store(*backend, grid, {.precision = kPrecisionF32}, visiting(parameters));
          GradientSink sink(*backend, communicator, grid, trace, store, kAccumulate, Dtype::kF32);
          play_backward(sink, parameters, grid, kAccumulate);
          float sums[kReplicas] = {};  // of each first element
          for (int a = 0; a < kAccumulate; ++a) {
            for (int lane = 0; lane < kLanes; ++lane) sums[lane % kReplicas] += static_cast<float>(term(a, lane));
          }
          for (const PlacedBlock& block : store.blocks()) {
            if (block.parameter->kind != ParameterKind::kExpert || block.owned_index < 0) continue;
            const float found = store.owned()[static_cast<size_t>(block.owned_index)].gradient.get<float>()[0];
            EXPECT_EQ(found, block.parameter->expert == 4 ? 0 : (sums[0] + sums[1]) + sums[2]) << block.parameter->name << " on " << ranks << " ranks";
          }
        },
        {.sizes = kSizes});
  }
}

TEST(GradientSink, AnExpertWithoutRowsHasAZeroGradientAfterAStepWithRows) {
  std::deque<Parameter> parameters = example();
  const Grid grid(0, 1, 2);
  const auto backend = make_reference_backend();
  Trace trace;
  ThreadWorld world(1);
  const auto communicator = world.communicator(0);
  ParameterStore store(*backend, grid, {.precision = kPrecisionF32}, visiting(parameters));
  GradientSink sink(*backend, *communicator, grid, trace, store, 1, Dtype::kF32);
  const Tensor sum = store.expert_sum(parameters.back(), 0);
  sum.get<float>()[5] = 3;  // of an earlier step
  play_backward(sink, parameters, grid, 1);
  for (int64_t i = 0; i < sum.elements(); ++i) EXPECT_EQ(sum.get<float>()[i], 0) << i;
}

TEST(GradientSink, ANotClosedParameterIsAnError) {
  std::deque<Parameter> parameters = example();
  const Grid grid(0, 1, 1);
  const auto backend = make_reference_backend();
  Trace trace;
  ThreadWorld world(1);
  const auto communicator = world.communicator(0);
  ParameterStore store(*backend, grid, {.precision = kPrecisionF32}, visiting(parameters));
  GradientSink sink(*backend, *communicator, grid, trace, store, 1, Dtype::kF32);
  sink.begin(0, 0);
  sink.target(parameters[1]);
  sink.done(parameters[1]);
  EXPECT_THROW(sink.end(), InternalError);
}

}  // namespace
}  // namespace switchyard
