#include <algorithm>
#include <cmath>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

class Routing : public BackendTest {
 protected:
  struct Slots {
    Tensor requested, kept, slot, position, token;
  };
  Slots slots(Backend& b, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
    const Slots s{integers({shape.groups(), shape.experts}), integers({shape.experts}), integers({shape.tokens}), integers({shape.tokens}),
                  integers({rule.rows(shape)})};
    b.assign_slots(Out(s.requested), Out(s.kept), Out(s.slot), Out(s.position), Out(s.token), expert, shape, rule);
    return s;
  }
  void compare_slots(const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
    const Slots actual = slots(*backend, expert, shape, rule), expected = slots(*reference, expert, shape, rule);
    const std::string what = label("assign_slots", shape.tokens, shape.experts, shape.group_tokens) + ", capacity " + std::to_string(rule.capacity) +
                             ", blocks of " + std::to_string(rule.block) + ": ";
    expect_same_bits(actual.requested, expected.requested, what + "requested");
    expect_same_bits(actual.kept, expected.kept, what + "kept");
    expect_same_bits(actual.slot, expected.slot, what + "slot");
    expect_same_bits(actual.position, expected.position, what + "position");
    expect_same_bits(actual.token, expected.token, what + "token");
  }

  // What the losses and the backward read, as the reference makes it in F64, and rounded to exact.
  struct Routed {
    Tensor p, lse, expert, gate, requested;
  };
  Routed routed(const RouterShape& s, const Tensor& mask) {
    const Tensor logits = pool.uniform(Dtype::kF64, {s.tokens, s.experts}, -3, 3);
    Routed r{pool.make(Dtype::kF64, logits.shape()), pool.make(Dtype::kF64, {s.tokens}), integers({s.tokens}), pool.make(Dtype::kF64, {s.tokens}), {}};
    reference->router_forward(Out(r.p), Out(r.lse), Out(r.expert), Out(r.gate), logits, mask);
    r.requested = slots(*reference, r.expert, s, {2}).requested;
    r.p = pool.as(exact, r.p);
    r.lse = pool.as(exact, r.lse);
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Routing, testing::ValuesIn(backend_cases()), case_name);

constexpr RouterShape kShapes[] = {{0, 4, 8}, {1, 1, 1}, {5, 3, 8}, {130, 17, 33}, {65, 64, 65}, {64, 2, 16}, {33, 130, 7}};

TEST_P(Routing, Forward) {
  for (const RouterShape& s : kShapes) {
    for (bool masked : {false, true}) {
      const Tensor logits = exacts({s.tokens, s.experts}, -5, 5), mask = masked ? pool.integers({s.tokens}, 0, 3) : Tensor();
      const Pair p(pool, target(exact, {s.tokens, s.experts})), lse(pool, target(exact, {s.tokens})), gate(pool, target(exact, {s.tokens}));
      const Tensor expert = integers({s.tokens}), expected = integers({s.tokens});
      backend->router_forward(Out(p.actual), Out(lse.actual), Out(expert), Out(gate.actual), logits, mask);
      reference->router_forward(Out(p.expected), Out(lse.expected), Out(expected), Out(gate.expected), pool.wide(logits), mask);
      const Tensor size = pool.wide(p.expected);  // exp(l - max) is known to the size of its argument
      for (int64_t t = 0; t < s.tokens; ++t) {
        for (int64_t i = 0; i < s.experts; ++i) set(size, t, i, 12 * at(size, t, i));
      }
      expect_close(p.actual, p.expected, sum_units(s.experts), size, label("probabilities", s.tokens, s.experts));
      expect_close(lse.actual, lse.expected, sum_units(s.experts), 10, label("log_sum_exp", s.tokens, s.experts));
      expect_close(gate.actual, gate.expected, sum_units(s.experts), 12, label("gate", s.tokens, s.experts));
      expect_same_bits(expert, expected, label("expert", s.tokens, s.experts));
      for (int64_t t = 0; t < s.tokens; ++t) {
        const int64_t e = static_cast<int64_t>(at(expert, t));
        EXPECT_EQ(at(gate.actual, t), e < 0 ? 0 : at(p.actual, t, e)) << "the gate is the very probability of the expert";
      }
    }
  }
}

TEST_P(Routing, TiesGoToTheLowestExpert) {
  for (int64_t experts : kOddExtents) {
    for (int64_t best : {int64_t{0}, experts / 2, experts - 1}) {
      const Tensor logits = pool.filled(exact, {3, experts}, -1), expert = integers({3}), gate = target(exact, {3});
      for (int64_t e = best; e < experts; e += 2) set(logits, 1, e, 2);
      backend->router_forward(Out(target(exact, {3, experts})), Out(target(exact, {3})), Out(expert), Out(gate), logits, pool.of(Dtype::kI32, {3}, {1, 1, 0}));
      EXPECT_EQ(at(expert, 0), 0) << experts << " equal experts";
      EXPECT_EQ(at(expert, 1), best) << "of " << experts;
      EXPECT_EQ(at(expert, 2), -1);
      EXPECT_EQ(at(gate, 2), 0);
    }
  }
}

TEST_P(Routing, SlotsOfEveryShape) {
  for (const RouterShape& s : kShapes) {
    for (const SlotRule& rule : {SlotRule{0}, SlotRule{1}, SlotRule{3}, SlotRule{s.group_tokens}, SlotRule{3, 3 * s.groups()}, SlotRule{3, s.tokens + 5}}) {
      compare_slots(pool.integers({s.tokens}, -1, s.experts), s, rule);
      compare_slots(pool.integers({s.tokens}, 0, std::min<int64_t>(2, s.experts)), s, rule);  // crowded
      compare_slots(pool.filled(Dtype::kI32, {s.tokens}, -1), s, rule);                       // nothing but padding
    }
  }
}

// Counts and places are integers: 16 bits, or a float's 24, or a bf16's 8 would lose some of them.
TEST_P(Routing, SeventyThousandTokensOfOneExpert) {
  constexpr int64_t kTokens = 70007;
  const Tensor expert = pool.filled(Dtype::kI32, {kTokens}, 1);
  compare_slots(expert, {kTokens, 3, kTokens}, {kTokens});
  compare_slots(expert, {kTokens, 3, kTokens}, {kTokens, kTokens});
  compare_slots(expert, {kTokens, 3, kTokens}, {66000});
  compare_slots(expert, {kTokens, 3, 1024}, {int64_t{1} << 40});
  const Slots s = slots(*backend, expert, {kTokens, 3, 1024}, {kTokens});
  EXPECT_EQ(at(s.kept, 1), kTokens);
  EXPECT_EQ(at(s.slot, kTokens - 1), kTokens - 1);
}

TEST_P(Routing, Losses) {
  for (const RouterShape& s : kShapes) {
    for (bool masked : {false, true}) {
      const Tensor mask = masked ? pool.integers({s.tokens}, 0, 2) : Tensor();
      const Routed r = routed(s, mask);
      const RouterLoss loss{0.7, 0.02};
      const Pair sums(pool, target(Dtype::kF64, {kRouterSums}));
      backend->router_losses(Out(sums.actual), r.p, r.lse, r.expert, r.requested, s, loss);
      reference->router_losses(Out(sums.expected), pool.wide(r.p), pool.wide(r.lse), r.expert, r.requested, s, loss);
      const Tensor expected = sums.expected;
      for (int64_t i = 0; i < kRouterSums; ++i) {
        // Sums are in F64; what joins them may be rounded to exact once (a logarithm, a product).
        EXPECT_NEAR(at(sums.actual, i), at(expected, i), 8 * unit_roundoff(exact) * std::abs(at(expected, i)))
            << label("sum " + std::to_string(i) + " of", s.tokens, s.experts, s.group_tokens);
      }
    }
  }
}

TEST_P(Routing, Backward) {
  for (const RouterShape& s : kShapes) {
    for (const RouterLoss& loss : {RouterLoss{0, 0}, RouterLoss{0.7, 0}, RouterLoss{0, 0.02}, RouterLoss{0.7, 0.02}}) {
      const Tensor mask = pool.integers({s.tokens}, 0, 3), dgate = exacts({s.tokens});
      const Routed r = routed(s, mask);
      const Pair dlogits(pool, target(exact, {s.tokens, s.experts}));
      backend->router_backward(Out(dlogits.actual), dgate, r.p, r.lse, r.expert, r.requested, s, loss);
      reference->router_backward(Out(dlogits.expected), pool.wide(dgate), pool.wide(r.p), pool.wide(r.lse), r.expert, r.requested, s, loss);
      const Tensor size = pool.wide(r.p);  // p (|dp| + |sum p dp| + 2 z |lse|)
      for (int64_t t = 0; t < s.tokens; ++t) {
        for (int64_t i = 0; i < s.experts; ++i) set(size, t, i, at(size, t, i) * (2 * (1 + loss.balance) + 2 * loss.z * std::abs(at(r.lse, t))));
      }
      expect_close(dlogits.actual, dlogits.expected, sum_units(s.experts), size, label("dlogits", s.tokens, s.experts, s.group_tokens));
      for (int64_t t = 0; t < s.tokens; ++t) {
        if (at(r.expert, t) >= 0) continue;
        EXPECT_EQ(at(dlogits.actual, t, s.experts - 1), 0) << "padding has no gradient";
      }
    }
  }
}

class Rows : public BackendTest {
 protected:
  // y (+)= w x[index] in every mixture of dtypes that the contract allows.
  void compare_gather(int64_t n, int64_t rows, int64_t width, int64_t k, bool weighted, bool add) {
    for (Dtype to : {activation, exact}) {
      for (Dtype from : {activation, exact}) {
        const Tensor x = pool.uniform(from, {rows, width}), index = pool.integers({n, k}, -1, rows);
        const Tensor weight = weighted ? exacts({n, k}) : Tensor();
        const Pair y(pool, target(to, {n, width}));
        const Tensor size = pool.wide(y.actual);
        backend->gather_rows({y.actual, add}, x, index, weight);
        reference->gather_rows({y.expected, add}, pool.wide(x), index, pool.as(Dtype::kF64, weight));
        reference->gather_rows({size, add}, pool.magnitude(x), index, pool.magnitude(weight));
        expect_close(y.actual, y.expected, sum_units(k), size, label("gather_rows", n, width, k));
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Rows, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Rows, Gather) {
  for (int64_t width : kOddExtents) {
    for (int64_t k : {1, 2, 3}) {
      for (bool weighted : {false, true}) {
        for (bool add : {false, true}) {
          compare_gather(33, 20, width, k, weighted, add);
          compare_gather(0, 20, width, k, weighted, add);
          compare_gather(5, 0, width, k, weighted, add);  // every index is -1
        }
      }
    }
  }
}

TEST_P(Rows, GatherWithoutWeightsKeepsBits) {
  const Tensor x = activations({20, 65}), y = target(activation, {33, 65}), index = pool.integers({33}, 0, 20);
  backend->gather_rows(Out(y), x, index, Tensor());
  for (int64_t i = 0; i < 33; ++i) {
    expect_same_bits(y.slice_rows(i, 1), x.slice_rows(static_cast<int64_t>(at(index, i)), 1), label("row", i));
  }
}

// A gate is a number, not a mask: however small, its token has an output and a gradient.
TEST_P(Rows, AGateOfOneBillionthIsNotDropped) {
  const Tensor x = pool.filled(activation, {1, 65}, 2), y = target(activation, {1, 65}), weight = pool.of(exact, {1, 1}, {1e-9});
  backend->gather_rows(Out(y), x, pool.make(Dtype::kI32, {1, 1}), weight);
  for (int64_t c = 0; c < 65; ++c) EXPECT_NEAR(at(y, 0, c), 2e-9, 2e-9 * 0.004) << "column " << c;
}

TEST_P(Rows, Dot) {
  for (int64_t width : {1, 3, 17, 33, 63, 65, 130, 1000}) {
    for (int64_t n : {0, 1, 33}) {
      for (int64_t k : {1, 2, 3}) {
        const Tensor a = activations({n, width}), b = activations({20, width}), index = pool.integers({n, k}, -1, 20);
        const Pair d(pool, target(exact, {n, k}));
        const Tensor size = pool.wide(d.actual);
        backend->row_dot(Out(d.actual), a, b, index);
        reference->row_dot(Out(d.expected), pool.wide(a), pool.wide(b), index);
        reference->row_dot(Out(size), pool.magnitude(a), pool.magnitude(b), index);
        expect_close(d.actual, d.expected, sum_units(width), size, label("row_dot", n, width, k));
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
