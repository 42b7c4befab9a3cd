// Routing, rows, norms, embedding, relative bias and loss at sizes at which every loop of their kernels runs twice or more: the
// same bits in every order of work, and the reference's numbers.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/compare.h"

namespace switchyard::cuda {
namespace {

constexpr Dtype kF32 = Dtype::kF32, kI32 = Dtype::kI32, kF64 = Dtype::kF64;

// What an operation made, and how far it may be from the reference; see expect_close. Integers may not be.
struct Result {
  std::string name;
  Tensor tensor;
  double units = 0, magnitude = 0;
};
using Results = std::vector<Result>;

// The same draws in every run.
struct Work {
  Backend& backend;
  Dtype activation;
  Pool pool{};

  Tensor act(Shape shape) { return pool.uniform(activation, shape); }
  Tensor exact(Shape shape) { return pool.uniform(kF32, shape); }
  // With numbers in it, which an operation overwrites or adds to.
  Tensor target(Dtype dtype, Shape shape) { return dtype == kI32 ? pool.filled(kI32, shape, 77) : pool.uniform(dtype, shape); }
};

// ---- operations

// `groups` of a size that no power of two divides, so that a group's tiles lie across the warp's chunks of tiles.
Results slots(Work& work, const RouterShape& s, const SlotRule& rule) {
  const Tensor expert = work.pool.integers({s.tokens}, -1, s.experts);
  for (int64_t t = 0; t < s.tokens; t += 3) set(expert, t, 0, 5);  // crowded
  const Tensor requested = work.target(kI32, {s.groups(), s.experts}), kept = work.target(kI32, {s.experts});
  const Tensor slot = work.target(kI32, {s.tokens}), position = work.target(kI32, {s.tokens}), token = work.target(kI32, {rule.rows(s)});
  work.backend.assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, s, rule);
  return {{"requested", requested}, {"kept", kept}, {"slot", slot}, {"position", position}, {"token", token}};
}
Results slots_of_short_groups(Work& work) { return slots(work, {7205, 37, 600}, {11}); }
Results slots_of_one_group(Work& work) { return slots(work, {8500, 300, 8500}, {25}); }
Results slots_of_single_tokens(Work& work) { return slots(work, {300, 7, 1}, {1}); }
Results slots_in_blocks(Work& work) { return slots(work, {7205, 300, 600}, {5, 70}); }

Results router(Work& work, const RouterShape& s) {
  const Shape shape{s.tokens, s.experts};
  const Tensor logits = work.pool.uniform(kF32, shape, -3, 3), mask = work.pool.integers({s.tokens}, 0, 5);
  const Tensor p = work.target(kF32, shape), lse = work.target(kF32, {s.tokens}), gate = work.target(kF32, {s.tokens}), expert = work.target(kI32, {s.tokens});
  work.backend.router_forward(Out(p), Out(lse), Out(expert), Out(gate), logits, mask);
  return {{"probabilities", p, 24, 0.2}, {"log_sum_exp", lse, 24, 10}, {"gate", gate, 24, 0.5}, {"expert", expert}};
}
Results router_of_many_experts(Work& work) { return router(work, {40, 300, 40}); }

Results losses(Work& work, const RouterShape& s) {
  const auto reference = make_reference_backend();
  const Tensor logits = work.pool.uniform(kF32, {s.tokens, s.experts}, -3, 3), mask = work.pool.integers({s.tokens}, 0, 5), dgate = work.exact({s.tokens});
  const Tensor p = work.target(kF32, {s.tokens, s.experts}), lse = work.target(kF32, {s.tokens}), gate = work.target(kF32, {s.tokens});
  const Tensor expert = work.target(kI32, {s.tokens}), requested = work.target(kI32, {s.groups(), s.experts}), other = work.target(kI32, {s.tokens});
  reference->router_forward(Out(p), Out(lse), Out(expert), Out(gate), logits, mask);
  reference->assign_slots(Out(requested), Out(work.target(kI32, {s.experts})), Out(other), Out(other), Out(other), expert, s, {3});
  const Tensor sums = work.target(kF64, {kRouterSums}), dlogits = work.target(kF32, {s.tokens, s.experts});
  const RouterLoss loss{0.7, 0.02};
  work.backend.router_losses(Out(sums), p, lse, expert, requested, s, loss);
  work.backend.router_backward(Out(dlogits), dgate, p, lse, expert, requested, s, loss);
  const Tensor rounded = work.pool.as(kF32, sums);
  Results results = {{"dlogits", dlogits, 24, 1}};
  for (int64_t i = 0; i < kRouterSums; ++i) results.push_back({"sum " + std::to_string(i), rounded.slice_rows(i, 1), 8, std::abs(at(rounded, i))});
  results.push_back({"bits of the sums", sums, 1e9, std::abs(at(rounded, 2))});  // F64, of terms that were rounded in F32
  return results;
}
Results losses_of_one_group(Work& work) { return losses(work, {2500, 37, 2500}); }
Results losses_of_many_groups(Work& work) { return losses(work, {258, 5, 1}); }

Results rows(Work& work) {
  constexpr int64_t kRows = 50, kWidth = 300;
  const Tensor x = work.act({70, kWidth}), a = work.act({kRows, kWidth}), index = work.pool.integers({kRows, 2}, -1, 70), weight = work.exact({kRows, 2});
  const Tensor y = work.target(work.activation, {kRows, kWidth}), sum = work.target(kF32, {kRows, kWidth}), d = work.target(kF32, {kRows, 2});
  work.backend.gather_rows(Out(y), x, index, Tensor());
  work.backend.gather_rows(Accumulate(sum), x, index, weight);
  work.backend.row_dot(Out(d), a, x, index);
  return {{"y", y, 4, 2}, {"weighted", sum, 6, 3}, {"d", d, sum_units(kWidth), kWidth / 4.0}};
}

Results norms(Work& work) {
  constexpr int64_t kRows = 1100, kWidth = 140;
  const Tensor x = work.act({kRows, kWidth}), dy = work.act({kRows, kWidth}), scale = work.exact({kWidth}), bias = work.exact({kWidth});
  const Tensor y = work.target(work.activation, {kRows, kWidth}), statistics = work.target(kF32, {kRows, 2}),
               dx = work.target(work.activation, {kRows, kWidth});
  const Tensor dscale = work.target(kF32, {kWidth}), dbias = work.target(kF32, {kWidth});
  work.backend.norm_forward(Out(y), Out(statistics), x, scale, bias, {});
  work.backend.norm_backward(Accumulate(dx), Accumulate(dscale), Out(dbias), dy, x, statistics, scale, {});
  const double units = 2 * sum_units(kRows);
  return {{"y", y, 40, 4}, {"statistics", statistics, 40, 3}, {"dx", dx, 40, 8}, {"dscale", dscale, units, kRows}, {"dbias", dbias, units, kRows / 2.0}};
}

// Four neighbouring rows of the table have long lists of tokens, the others short ones or none.
Results embedding(Work& work) {
  constexpr int64_t kTokens = 1100, kVocabulary = 304, kWidth = 140, kSequence = 11;
  const Tensor tokens = work.pool.integers({kTokens}, 0, kVocabulary - 5), dx = work.act({kTokens, kWidth});
  for (int64_t t = 0; t < kTokens; t += 2) set(tokens, t, 0, static_cast<double>(8 + t % 8 / 2));
  const Tensor x = work.target(work.activation, {kTokens, kWidth});
  work.backend.embed(Out(x), work.act({kVocabulary, kWidth}), work.act({kSequence + 3, kWidth}), tokens, kSequence, 3);
  const Tensor dtable = work.target(kF32, {kVocabulary, kWidth}), dpositions = work.target(kF32, {kSequence + 2, kWidth});
  work.backend.embed_backward(Accumulate(dtable), Out(dpositions), dx, tokens, kSequence);
  return {{"x", x, 1, 2}, {"dtable", dtable, 2 * sum_units(140), 70}, {"dpositions", dpositions, 2 * sum_units(100), 50}};
}

Results relative_bias(Work& work) {
  constexpr int64_t kHeads = 3, kQueries = 300, kKeys = 290, kBuckets = 40;
  const Tensor bucket = work.pool.integers({kQueries + kKeys - 1}, 0, kBuckets), dbias = work.exact({kHeads, kQueries, kKeys});
  const Tensor bias = work.target(kF32, {kHeads, kQueries, kKeys}), dtable = work.target(kF32, {kBuckets, kHeads});
  work.backend.relative_bias(Out(bias), work.exact({kBuckets, kHeads}), bucket);
  work.backend.relative_bias_backward(Accumulate(dtable), dbias, bucket);
  return {{"bias", bias, 0, 0}, {"dtable", dtable, 2 * sum_units(3000), 1500}};
}

Results loss(Work& work) {
  constexpr int64_t kRows = 5, kVocabulary = 2500;
  const Tensor logits = work.pool.uniform(work.activation, {kRows, kVocabulary}, -4, 4), targets = work.pool.integers({kRows}, -1, kVocabulary);
  set(targets, 2, 0, -1);
  set(targets, 3, 0, 2001);
  set(logits, 3, 2001, 4.5);  // a correct one
  set(logits, 4, 1100, 5);
  const Tensor loss = work.target(kF32, {kRows}), correct = work.target(kI32, {kRows});
  work.backend.cross_entropy(logits, Out(loss), Out(correct), targets, {0.5, 0.01, true});
  return {{"dlogits", logits, 60, 0.2}, {"loss", loss, 60, 8}, {"correct", correct}};
}

// ---- in every order

struct Case {
  const char* name;
  Results (*run)(Work&);
  Dtype activation;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name << " in " << name(c.activation); }

std::vector<Case> cases(Dtype activation) {
  return {{"rows", rows, activation}, {"norms", norms, activation}, {"embedding", embedding, activation}, {"loss", loss, activation}};
}
std::vector<Case> f32_cases() {
  std::vector<Case> all = {{"slots_of_short_groups", slots_of_short_groups, kF32},
                           {"slots_of_one_group", slots_of_one_group, kF32},
                           {"slots_of_single_tokens", slots_of_single_tokens, kF32},
                           {"slots_in_blocks", slots_in_blocks, kF32},
                           {"router_of_many_experts", router_of_many_experts, kF32},
                           {"losses_of_one_group", losses_of_one_group, kF32},
                           {"losses_of_many_groups", losses_of_many_groups, kF32},
                           {"relative_bias", relative_bias, kF32}};
  for (const Case& c : cases(kF32)) all.push_back(c);
  return all;
}
std::string test_name(const testing::TestParamInfo<Case>& c) { return std::string(c.param.name) + "_" + name(c.param.activation); }

class LongLoops : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
  }
};
INSTANTIATE_TEST_SUITE_P(F32, LongLoops, testing::ValuesIn(f32_cases()), test_name);
INSTANTIATE_TEST_SUITE_P(BF16, LongLoops, testing::ValuesIn(cases(Dtype::kBF16)), test_name);

class LongLoopsInF32 : public LongLoops {};  // as the reference computes
INSTANTIATE_TEST_SUITE_P(F32, LongLoopsInF32, testing::ValuesIn(f32_cases()), test_name);

TEST_P(LongLoops, HaveTheSameBitsInEveryOrder) {
  Mirror mirror(make_device_backend());
  same_under_every_schedule([&] {
    Work work{mirror, GetParam().activation};
    std::vector<std::string> all;
    for (const Result& r : GetParam().run(work))
      all.push_back(r.name + ": " + std::string(static_cast<const char*>(r.tensor.data()), static_cast<size_t>(r.tensor.bytes())));
    return all;
  });
}

TEST_P(LongLoopsInF32, HaveTheNumbersOfTheReference) {
  Mirror mirror(make_device_backend());
  const auto reference = make_reference_backend();
  Work there{mirror, kF32}, here{*reference, kF32};
  const Results actual = GetParam().run(there), expected = GetParam().run(here);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].tensor.dtype() == kI32) {
      expect_same_bits(actual[i].tensor, expected[i].tensor, expected[i].name);
    } else {
      expect_close(actual[i].tensor, there.pool.wide(expected[i].tensor), expected[i].units, expected[i].magnitude, expected[i].name);
    }
  }
}

// ---- alone

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
    backend = std::make_unique<Mirror>(make_device_backend());
  }
  std::unique_ptr<Backend> backend;
  Pool pool;
};
class RowsOfEveryNumber : public OnDevice {};
class LargeTable : public OnDevice {};
class NotANumber : public OnDevice {};

// What is made of each row by itself, of rows first .. first + n - 1 of the same inputs.
std::vector<Tensor> made_of_rows(Work& work, int64_t first, int64_t n) {
  constexpr int64_t kRows = 50, kWidth = 300;
  const auto some = [&](const Tensor& x) { return x.slice_rows(first, n); };
  const Tensor x = some(work.act({kRows, kWidth})), dy = some(work.act({kRows, kWidth})), all = work.act({kRows, kWidth});
  const Tensor scale = work.exact({kWidth}), scores = some(work.exact({kRows, kWidth})), weight = some(work.exact({kRows, 2}));
  const Tensor index = some(work.pool.integers({kRows, 2}, -1, kRows)), tokens = some(work.pool.integers({kRows, 1}, 0, kRows)).reshape({n});
  const auto activations = [&] { return work.pool.make(work.activation, {n, kWidth}); };
  const auto exacts = [&](Shape shape) { return work.pool.make(kF32, shape); };
  const Tensor embedded = activations(), normal = activations(), dx = activations(), gathered = activations(), dots = exacts({n, 2});
  const Tensor statistics = exacts({n, 2}), p = exacts({n, kWidth}), lse = exacts({n}), gate = exacts({n}), loss = exacts({n});
  const Tensor expert = work.pool.make(kI32, {n}), correct = work.pool.make(kI32, {n}), logits = work.pool.as(work.activation, x);
  Backend& b = work.backend;
  b.embed(Out(embedded), all, Tensor(), tokens, 7, 0);
  b.norm_forward(Out(normal), Out(statistics), x, scale, scale, {});
  b.norm_backward(Out(dx), Out(exacts({kWidth})), Out(exacts({kWidth})), dy, x, statistics, scale, {});
  b.gather_rows(Out(gathered), all, index, weight);
  b.row_dot(Out(dots), x, all, index);
  b.router_forward(Out(p), Out(lse), Out(expert), Out(gate), scores, Tensor());
  b.cross_entropy(logits, Out(loss), Out(correct), tokens, {0.5, 0.01, true});
  return {embedded, normal, statistics, dx, gathered, dots, p, lse, expert, gate, logits, loss, correct};
}

// Rows are divided among ranks.
TEST_F(RowsOfEveryNumber, HaveTheirBits) {
  for (const Dtype activation : {kF32, Dtype::kBF16}) {
    Work whole{*backend, activation};
    const std::vector<Tensor> expected = made_of_rows(whole, 0, 50);
    for (const auto& [first, n] : {std::pair<int64_t, int64_t>{0, 1}, {0, 17}, {17, 33}, {49, 1}}) {
      Work part{*backend, activation};
      const std::vector<Tensor> actual = made_of_rows(part, first, n);
      for (size_t i = 0; i < expected.size(); ++i) {
        expect_same_bits(actual[i], expected[i].slice_rows(first, n),
                         "result " + std::to_string(i) + ", rows " + std::to_string(first) + " to " + std::to_string(first + n));
      }
    }
  }
}

// Rows of three bytes: as many passes of the sorting.
TEST_F(LargeTable, HasTheGradientsOfItsTokens) {
  constexpr int64_t kTokens = 700, kVocabulary = 70000, kWidth = 5;
  const Tensor tokens = pool.integers({kTokens}, 0, kVocabulary), dx = pool.uniform(kF32, {kTokens, kWidth});
  for (int64_t t = 0; t < kTokens; t += 3) set(tokens, t, 0, static_cast<double>(256 * (t % 7) + 65536 * (t % 2)));
  const Tensor dtable = pool.uniform(kF32, {kVocabulary, kWidth}), expected = pool.make(kF32, {kVocabulary, kWidth});
  backend->embed_backward(Out(dtable), Out(Tensor()), dx, tokens, 7);
  make_reference_backend()->embed_backward(Out(expected), Out(Tensor()), dx, tokens, 7);
  expect_close(dtable, pool.wide(expected), 2 * sum_units(40), 20, "dtable");
}

// A token whose logits went wrong must be seen in the loss, and its index must still be one.
TEST_F(NotANumber, OfARouterReachesTheGate) {
  const Tensor logits = pool.uniform(kF32, {3, 70}), p = pool.make(kF32, {3, 70}), lse = pool.make(kF32, {3}), gate = pool.make(kF32, {3});
  const Tensor expert = pool.make(kI32, {3});
  set(logits, 1, 40, std::numeric_limits<double>::quiet_NaN());
  backend->router_forward(Out(p), Out(lse), Out(expert), Out(gate), logits, Tensor());
  EXPECT_TRUE(std::isnan(at(gate, 1)) && std::isnan(at(lse, 1)) && std::isnan(at(p, 1, 0)));
  EXPECT_EQ(at(expert, 1), 0) << "as the reference says";
  EXPECT_FALSE(std::isnan(at(gate, 0)) || std::isnan(at(gate, 2))) << "other tokens do not see it";
}

TEST_F(NotANumber, OfALogitReachesTheLoss) {
  const Tensor logits = pool.uniform(kF32, {2, 300}), loss = pool.make(kF32, {2}), correct = pool.make(kI32, {2});
  set(logits, 0, 200, std::numeric_limits<double>::quiet_NaN());
  backend->cross_entropy(logits, Out(loss), Out(correct), pool.of(kI32, {2}, {3, 4}), {});
  EXPECT_TRUE(std::isnan(at(loss, 0)));
  EXPECT_FALSE(std::isnan(at(loss, 1)));
}

// The largest of a row's logits is one of -inf only where all are.
TEST_F(NotANumber, IsNotMadeOfMinusInfinity) {
  const Tensor logits = pool.uniform(kF32, {1, 300}), loss = pool.make(kF32, {1}), correct = pool.make(kI32, {1});
  for (int64_t c = 0; c < 300; ++c) {
    if (c != 70) set(logits, 0, c, -std::numeric_limits<double>::infinity());
  }
  backend->cross_entropy(logits, Out(loss), Out(correct), pool.of(kI32, {1}, {70}), {});
  EXPECT_EQ(at(loss, 0), 0);
  EXPECT_EQ(at(correct, 0), 1);
  EXPECT_EQ(at(logits, 0, 0), 0);
}

}  // namespace
}  // namespace switchyard::cuda
