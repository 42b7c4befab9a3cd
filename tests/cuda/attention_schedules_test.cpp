// Attention over several tiles of queries and of keys, at widths of one, two and four groups of columns: the same bits in every
// order of work and in every batch, and the reference's numbers.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/compare.h"

namespace switchyard::cuda {
namespace {

constexpr Dtype kF32 = Dtype::kF32, kI32 = Dtype::kI32, kF64 = Dtype::kF64;

struct Case {
  const char* name;
  AttentionShape shape;
  bool mask, bias;
  Dtype activation;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name << " in " << name(c.activation); }
std::string test_name(const testing::TestParamInfo<Case>& c) { return std::string(c.param.name) + "_" + name(c.param.activation); }

// batch, queries, keys, key_stride, heads, width, first_position, causal, scale
std::vector<Case> cases() {
  constexpr Dtype kBF16 = Dtype::kBF16;
  return {{"causal", {2, 150, 150, 150, 2, 40, 0, true, 0.3}, false, false, kF32},
          {"causal_with_mask_and_bias", {3, 130, 130, 130, 2, 17, 0, true, 0.5}, true, true, kF32},
          {"causal_with_mask_and_bias", {3, 130, 130, 130, 2, 17, 0, true, 0.5}, true, true, kBF16},
          {"full_with_bias", {2, 70, 150, 150, 2, 33, 0, false, 0.5}, false, true, kF32},
          {"keys_of_a_cache", {2, 70, 200, 270, 1, 100, 130, true, 0.2}, true, false, kF32},
          {"more_queries_than_keys", {1, 140, 70, 70, 2, 128, 0, true, 0.2}, false, false, kBF16},
          {"wide_heads", {1, 70, 66, 66, 2, 201, 0, false, 0.1}, true, true, kF32},
          {"widest_heads", {1, 66, 130, 130, 1, 256, 64, true, 0.1}, false, false, kBF16}};
}

struct Operands {
  AttentionInputs in;
  Tensor d_o;
};
struct Results {
  Tensor o, log_sum_exp, dq, dk, dv, dbias;
};

Operands operands(Pool& pool, const Case& c) {
  const AttentionShape& s = c.shape;
  const Shape queries{s.batch * s.queries, s.heads * s.width}, keys{s.batch * s.key_stride, s.heads * s.width};
  Operands x{{pool.uniform(c.activation, queries), pool.uniform(c.activation, keys), pool.uniform(c.activation, keys)}, pool.uniform(c.activation, queries)};
  if (c.mask) x.in.mask = pool.integers({s.batch, s.keys}, 0, 4);  // one in four is hidden
  if (c.bias) x.in.bias = pool.uniform(kF32, {s.heads, s.queries, s.keys});
  return x;
}

// Targets, with numbers in them.
Results targets(Pool& pool, const Operands& x, const AttentionShape& s) {
  const Dtype activation = x.in.q.dtype(), exact = activation == kF64 ? kF64 : kF32;
  const auto like = [&](const Tensor& y) { return pool.filled(activation, y.shape(), 7); };
  return {like(x.in.q), pool.filled(exact, {s.batch, s.heads, s.queries}, 7),
          like(x.in.q), like(x.in.k),
          like(x.in.v), x.in.bias.exists() ? pool.filled(exact, x.in.bias.shape(), 0.125) : Tensor()};
}
void backward(Backend& backend, const Operands& x, const Results& r, const AttentionShape& s) {
  backend.attention_backward(Out(r.dq), Out(r.dk), Out(r.dv), Accumulate(r.dbias), x.d_o, r.o, r.log_sum_exp, x.in, s);
}
Results run(Backend& backend, Pool& pool, const Operands& x, const AttentionShape& s) {
  const Results r = targets(pool, x, s);
  backend.attention_forward(Out(r.o), Out(r.log_sum_exp), x.in, s);
  backward(backend, x, r, s);
  return r;
}

std::string bytes_of(const Tensor& x) { return x.exists() ? std::string(static_cast<const char*>(x.data()), static_cast<size_t>(x.bytes())) : ""; }

class AttentionTiles : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
    backend = std::make_unique<Mirror>(make_device_backend());
  }
  std::unique_ptr<Backend> backend;
  Pool pool;
};
INSTANTIATE_TEST_SUITE_P(Cuda, AttentionTiles, testing::ValuesIn(cases()), test_name);

TEST_P(AttentionTiles, HaveTheSameBitsInEveryOrder) {
  const Operands x = operands(pool, GetParam());
  same_under_every_schedule([&] {
    const Results r = run(*backend, pool, x, GetParam().shape);
    return std::vector{bytes_of(r.o), bytes_of(r.log_sum_exp), bytes_of(r.dq), bytes_of(r.dk), bytes_of(r.dv), bytes_of(r.dbias)};
  });
}

TEST_P(AttentionTiles, HaveTheNumbersOfTheReference) {
  const AttentionShape& s = GetParam().shape;
  const Operands x = operands(pool, GetParam());
  const Operands wide{{pool.wide(x.in.q), pool.wide(x.in.k), pool.wide(x.in.v), x.in.mask, pool.as(kF64, x.in.bias)}, pool.wide(x.d_o)};
  const Results actual = run(*backend, pool, x, s);
  Results expected = targets(pool, wide, s);
  const auto reference = make_reference_backend();
  reference->attention_forward(Out(expected.o), Out(expected.log_sum_exp), wide.in, s);
  const double units = sum_units(s.width) + sum_units(std::max(s.keys, s.queries));
  expect_close(actual.o, expected.o, units, 1, "o");
  expect_close(actual.log_sum_exp, expected.log_sum_exp, units, 4, "log_sum_exp");
  expected.o = pool.wide(actual.o);  // both backwards are given the same
  expected.log_sum_exp = pool.wide(actual.log_sum_exp);
  backward(*reference, wide, expected, s);
  expect_close(actual.dq, expected.dq, units, 1, "dq");
  expect_close(actual.dk, expected.dk, units, 1, "dk");
  expect_close(actual.dv, expected.dv, units, 2, "dv");
  if (GetParam().bias) expect_close(actual.dbias, expected.dbias, units, 1, "dbias");
}

TEST_P(AttentionTiles, OfASequenceDoNotDependOnItsBatch) {
  AttentionShape s = GetParam().shape;
  s.batch = 3;
  const Operands all = operands(pool, {"", s, GetParam().mask, GetParam().bias, GetParam().activation});
  const Results together = run(*backend, pool, all, s);
  AttentionShape one = s;
  one.batch = 1;
  for (int64_t b = 0; b < s.batch; ++b) {
    const auto queries = [&](const Tensor& x) { return x.slice_rows(b * s.queries, s.queries); };
    const auto keys = [&](const Tensor& x) { return x.slice_rows(b * s.key_stride, s.key_stride); };
    const Tensor mask = all.in.mask.exists() ? all.in.mask.slice_rows(b, 1) : Tensor();
    const Results alone = run(*backend, pool, {{queries(all.in.q), keys(all.in.k), keys(all.in.v), mask, all.in.bias}, queries(all.d_o)}, one);
    const std::string which = " of sequence " + std::to_string(b) + ", alone and in a batch of 3";
    expect_same_bits(alone.o, queries(together.o), "o" + which);
    expect_same_bits(alone.log_sum_exp, together.log_sum_exp.slice_rows(b, 1), "log_sum_exp" + which);
    expect_same_bits(alone.dq, queries(together.dq), "dq" + which);
    expect_same_bits(alone.dk, keys(together.dk), "dk" + which);
    expect_same_bits(alone.dv, keys(together.dv), "dv" + which);
  }
}

// ---- what is not a tile

class AttentionOnDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
  }
  Pool pool;
};

TEST_F(AttentionOnDevice, WithoutKeysIsZeroBothWays) {
  Mirror backend(make_device_backend());
  const Case c{"", {2, 3, 0, 4, 2, 5, 0, true, 1}, false, false, kF32};
  const Results r = run(backend, pool, operands(pool, c), c.shape);
  for (const Tensor& x : {r.o, r.log_sum_exp, r.dq, r.dk, r.dv}) expect_same_bits(x, pool.make(kF32, x.shape()), "a result without keys");
}

TEST_F(AttentionOnDevice, WithoutSequencesAddsNothingToTheBias) {
  Mirror backend(make_device_backend());
  const Case c{"", {0, 3, 4, 4, 2, 5, 0, true, 1}, false, true, kF32};
  const Operands x = operands(pool, c);
  const Results r = run(backend, pool, x, c.shape);
  expect_same_bits(r.dbias, pool.filled(kF32, r.dbias.shape(), 0.125), "a gradient of the bias that is added to");
  backend.attention_backward(Out(r.dq), Out(r.dk), Out(r.dv), Out(r.dbias), x.d_o, r.o, r.log_sum_exp, x.in, c.shape);
  expect_same_bits(r.dbias, pool.make(kF32, r.dbias.shape()), "a gradient of the bias that is overwritten");
}

// A query that went wrong must be seen, and only there.
TEST_F(AttentionOnDevice, ShowsAQueryThatIsNotANumber) {
  Mirror backend(make_device_backend());
  const Case c{"", {1, 66, 130, 130, 1, 5, 64, true, 1}, false, false, kF32};
  const Operands x = operands(pool, c);
  set(x.in.q, 65, 2, std::numeric_limits<double>::quiet_NaN());
  const Results r = run(backend, pool, x, c.shape);
  EXPECT_TRUE(std::isnan(at(r.o, 65, 0)) && std::isnan(at(r.log_sum_exp.reshape({66}), 65)) && std::isnan(at(r.dq, 65, 4)));
  EXPECT_FALSE(std::isnan(at(r.o, 64, 0)) || std::isnan(at(r.dq, 64, 4))) << "another query of the tile";
  EXPECT_TRUE(std::isnan(at(r.dk, 128, 0)) && std::isnan(at(r.dv, 128, 0))) << "a key that it sees";
}

TEST_F(AttentionOnDevice, RefusesWhatItsKernelsCannotCount) {
  const auto backend = make_device_backend();
  const auto forward = [&](int64_t stride, int64_t width) {
    const AttentionShape s{1, 2, 2, 2, 1, width, 0, true, 1};
    const Tensor x = Tensor(reinterpret_cast<void*>(64), kF32, {2, stride}, Device::kCuda).slice_columns(0, width);  // never followed
    backend->attention_forward(Out(x), Out(x), {x, x, x}, s);
  };
  EXPECT_THROW(forward(257, 257), InternalError) << "wider than four groups of columns";
  EXPECT_THROW(forward((int64_t{1} << 24) + 1, 4), InternalError) << "rows whose offsets within a tile exceed 32 bits";
}

}  // namespace
}  // namespace switchyard::cuda
