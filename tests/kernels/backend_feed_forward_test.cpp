// activate and relative_bias: each backend against the reference, and the reference against worked numbers and slopes.
#include <cmath>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

constexpr Dtype kF64 = Dtype::kF64;
constexpr Activation kActivations[] = {Activation::kRelu, Activation::kGelu};

const char* name_of(Activation activation) { return activation == Activation::kRelu ? "ReLU" : "GELU"; }

class Activations : public BackendTest {
 protected:
  // What errors are measured by: (1 + u^2) |gate| |d| / (1 - rate), which bounds values and slopes.
  Tensor magnitude(const Tensor& u, const Tensor& gate, const Tensor& d, double rate) {
    const Tensor m = pool.make(kF64, u.shape());
    for (int64_t r = 0; r < u.rows(); ++r) {
      for (int64_t c = 0; c < u.columns(); ++c) {
        const double x = at(u, r, c), g = gate.exists() ? std::abs(at(gate, r, c)) : 1, factor = d.exists() ? std::abs(at(d, r, c)) : 1;
        set(m, r, c, (1 + x * x) * g * factor / (1 - rate));
      }
    }
    return m;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Activations, testing::ValuesIn(backend_cases()), case_name);

const Random kRandom(11, Purpose::kHiddenDropout, 2, 40, (uint64_t{3} << 32) - 5);  // the rows cross 2^32
constexpr double kUnits = 4;

TEST_P(Activations, Forward) {
  for (Activation activation_kind : kActivations) {
    for (int64_t columns : kOddExtents) {
      for (double rate : {0.0, 0.3}) {
        for (bool gated : {false, true}) {
          const Tensor u = activations({9, columns}, -6, 6), gate = gated ? activations({9, columns}, -2, 2) : Tensor();
          const Pair h(pool, target(activation, {9, columns}));
          backend->activate(Out(h.actual), u, gate, activation_kind, {rate, kRandom});
          reference->activate(Out(h.expected), pool.wide(u), pool.wide(gate), activation_kind, {rate, kRandom});
          expect_close(h.actual, h.expected, kUnits, magnitude(u, gate, Tensor(), rate), label(name_of(activation_kind), 9, columns));
        }
      }
    }
  }
  const Tensor none = activations({0, 8});
  backend->activate(Out(pool.make(activation, {0, 8})), none, none, Activation::kGelu, {});
}

TEST_P(Activations, Backward) {
  for (Activation activation_kind : kActivations) {
    for (int64_t columns : kOddExtents) {
      for (double rate : {0.0, 0.3}) {
        for (bool gated : {false, true}) {
          const Dropout dropout{rate, kRandom};
          const Shape shape{9, columns};
          const Tensor u = activations(shape, -6, 6), gate = gated ? activations(shape, -2, 2) : Tensor(), dh = activations(shape);
          const Pair du(pool, target(activation, shape));
          const Tensor dgate = gated ? target(activation, shape) : Tensor(), expected_dgate = pool.wide(dgate);
          backend->activate_backward(Out(du.actual), Out(dgate), dh, u, gate, activation_kind, dropout);
          reference->activate_backward(Out(du.expected), Out(expected_dgate), pool.wide(dh), pool.wide(u), pool.wide(gate), activation_kind, dropout);
          const std::string what = label(name_of(activation_kind), 9, columns);
          expect_close(du.actual, du.expected, kUnits, magnitude(u, gate, dh, rate), "du of " + what);
          if (gated) expect_close(dgate, expected_dgate, kUnits, magnitude(u, Tensor(), dh, rate), "dgate of " + what);
          backend->activate_backward(Out(dh), Out(dgate), dh, u, gate, activation_kind, dropout);
          expect_same_bits(dh, du.actual, "du in place of " + what);
        }
      }
    }
  }
  const Tensor none = activations({0, 8});
  backend->activate_backward(Out(none), Out(Tensor()), none, none, Tensor(), Activation::kGelu, {});
}

TEST_P(Activations, GeluIsRightWhereItSaturates) {
  const std::vector<double> values = {0, -8, 8, -15, 15, -20, 20, -21, 21, -100, 100, -1e6, 1e6, -1e12, 1e12, -1e-30, 1e-30};
  const Shape shape{1, static_cast<int64_t>(values.size())};
  const Tensor u = pool.of(activation, shape, values), one = pool.filled(activation, shape, 1);
  const Pair h(pool, target(activation, shape)), du(pool, target(activation, shape));
  backend->activate(Out(h.actual), u, Tensor(), Activation::kGelu, {});
  reference->activate(Out(h.expected), pool.wide(u), Tensor(), Activation::kGelu, {});
  backend->activate_backward(Out(du.actual), Out(Tensor()), one, u, Tensor(), Activation::kGelu, {});
  reference->activate_backward(Out(du.expected), Out(Tensor()), pool.wide(one), pool.wide(u), Tensor(), Activation::kGelu, {});
  expect_close(h.actual, h.expected, 4, pool.magnitude(u), "GELU");
  expect_close(du.actual, du.expected, 8, 1, "GELU'");
}

TEST_P(Activations, NumbersThatAreNotNumbersStayVisible) {
  const Tensor u = pool.filled(activation, {1, 33}, NAN), h = pool.make(activation, {1, 33}), du = pool.filled(activation, {1, 33}, 1);
  backend->activate(Out(h), u, Tensor(), Activation::kGelu, {});
  backend->activate_backward(Out(du), Out(Tensor()), du, u, Tensor(), Activation::kGelu, {});
  for (int64_t c = 0; c < 33; ++c) EXPECT_TRUE(std::isnan(at(h, 0, c)) && std::isnan(at(du, 0, c))) << "column " << c;
}

// One dropout and one ReLU: those on a product's way out, and these.
TEST_P(Activations, ReluAgreesWithThatOfProducts) {
  const double rate = activation == Dtype::kBF16 ? 0 : 0.4;  // BF16: a product on its own is rounded before dropout
  const Tensor w = exacts({33, 65}), x = activations({40, 65});
  PackedMatrix matrix{.storage = pool.make(Dtype::kI32, {(backend->packed_bytes(activation, 33, 65, Side::kForward) + 3) / 4}),
                      .dtype = activation,
                      .out = 33,
                      .in = 65,
                      .side = Side::kForward};
  backend->pack(matrix, w);
  const Tensor together = pool.make(activation, {40, 33}), u = pool.make(activation, {40, 33}), h = pool.make(activation, {40, 33});
  Product fused{x, &matrix, Out(together)};
  fused.relu = true;
  fused.dropout = {rate, kRandom};
  const Product plain{x, &matrix, Out(u)};
  backend->multiply({&fused, 1});
  backend->multiply({&plain, 1});
  backend->activate(Out(h), u, Tensor(), Activation::kRelu, {rate, kRandom});
  for (int64_t r = 0; r < 40; ++r) {
    for (int64_t c = 0; c < 33; ++c) EXPECT_EQ(at(h, r, c), at(together, r, c)) << "row " << r << ", column " << c;
  }
}

TEST_P(Activations, WrongShapesAreRefused) {
  const Tensor u = activations({4, 6}), other = activations({4, 5}), strided = pool.uniform_strided(activation, 4, 6);
  EXPECT_THROW(backend->activate(Out(other), u, Tensor(), Activation::kGelu, {}), InternalError);
  EXPECT_THROW(backend->activate(Out(u), u, other, Activation::kGelu, {}), InternalError);
  EXPECT_THROW(backend->activate(Out(activations({4, 6})), strided, Tensor(), Activation::kGelu, {}), InternalError);
  EXPECT_THROW(backend->activate_backward(Out(u), Out(Tensor()), u, u, u, Activation::kGelu, {}), InternalError) << "a gate without its gradient";
}

class ReferenceActivation : public testing::Test {
 protected:
  Pool pool;
  std::unique_ptr<Backend> backend = make_reference_backend();
};

// x s(2 z) in 50 decimal digits.
TEST_F(ReferenceActivation, GeluHasTheKnownValuesAndSlopes) {
  struct Known {
    double x, value, slope;
  };
  const Known known[] = {{-3, -0.0036373920817730191, -0.011584166630969726}, {-1, -0.15880800939172329, -0.082964083845782549},
                         {-0.5, -0.15428599017485609, 0.1326300964653577},    {0, 0, 0.5},
                         {0.5, 0.34571400982514394, 0.86736990353464227},     {1, 0.84119199060827665, 1.0829640838457826},
                         {2, 1.954597694087775, 1.0860992566236183},          {4, 3.9999297540518075, 1.0003351231971227}};
  for (const Known& k : known) {
    const Tensor u = pool.of(kF64, {1}, {k.x}), h = pool.make(kF64, {1}), d = pool.of(kF64, {1}, {1});
    backend->activate(Out(h), u, Tensor(), Activation::kGelu, {});
    backend->activate_backward(Out(d), Out(Tensor()), d, u, Tensor(), Activation::kGelu, {});
    EXPECT_NEAR(at(h, 0), k.value, 1e-15) << "gelu(" << k.x << ")";
    EXPECT_NEAR(at(d, 0), k.slope, 1e-15) << "gelu'(" << k.x << ")";
  }
}

TEST_F(ReferenceActivation, GradientsAreSlopes) {
  for (Activation activation : kActivations) {
    const Dropout dropout{0.3, kRandom};
    const Tensor u = pool.uniform(kF64, {4, 7}, -2, 2), gate = pool.uniform(kF64, {4, 7}), dh = pool.uniform(kF64, {4, 7});
    const Tensor h = pool.make(kF64, {4, 7}), du = pool.make(kF64, {4, 7}), dgate = pool.make(kF64, {4, 7});
    const auto loss = [&] {
      backend->activate(Out(h), u, gate, activation, dropout);
      return inner_product(h, dh);
    };
    backend->activate_backward(Out(du), Out(dgate), dh, u, gate, activation, dropout);
    for (const auto& [x, dx] : {std::pair{u, du}, std::pair{gate, dgate}}) {
      const Tensor numeric = numeric_gradient(pool, x, loss);
      EXPECT_LE(relative_difference(dx, numeric), 1e-6) << name_of(activation);
      for (int64_t r = 0; r < 4; ++r) set(dx, r, 0, 1.001 * at(dx, r, 0));
      EXPECT_GT(relative_difference(dx, numeric), 1e-6) << name_of(activation) << ": a factor of 1.001 in one column passes";
    }
  }
}

class RelativeBias : public BackendTest {
 protected:
  // Buckets in no order, some of which nobody uses.
  Tensor buckets(int64_t queries, int64_t keys, int64_t count) {
    const Tensor result = pool.make(Dtype::kI32, {std::max<int64_t>(0, queries + keys - 1)});
    for (int64_t i = 0; i < result.elements(); ++i) result.get<int32_t>()[i] = static_cast<int32_t>((i * i + 3 * i) % count);
    return result;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, RelativeBias, testing::ValuesIn(backend_cases()), case_name);

struct BiasShape {
  int64_t heads, queries, keys, buckets;
};
constexpr BiasShape kBiasShapes[] = {{1, 1, 1, 1}, {3, 5, 5, 4}, {2, 1, 17, 32}, {5, 33, 70, 32}, {2, 130, 9, 7}, {4, 0, 6, 8}, {4, 6, 0, 8}, {0, 3, 3, 2}};

TEST_P(RelativeBias, EveryPlaceHasTheNumberOfItsDistance) {
  for (const BiasShape& s : kBiasShapes) {
    const Tensor table = exacts({s.buckets, s.heads}), bucket = buckets(s.queries, s.keys, s.buckets);
    const Tensor bias = target(exact, {s.heads, s.queries, s.keys});
    backend->relative_bias(Out(bias), table, bucket);
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.queries; ++i) {
        for (int64_t j = 0; j < s.keys; ++j) {
          const int32_t b = bucket.get<int32_t>()[s.queries - 1 + j - i];
          ASSERT_EQ(bias.row<float>(h)[i * s.keys + j], table.row<float>(b)[h]) << label("head, query, key", h, i, j);
        }
      }
    }
  }
}

TEST_P(RelativeBias, BackwardSumsThePlacesOfABucket) {
  for (const BiasShape& s : kBiasShapes) {
    for (bool add : {false, true}) {
      const Tensor bucket = buckets(s.queries, s.keys, s.buckets), dbias = exacts({s.heads, s.queries, s.keys});
      const Pair dtable(pool, target(exact, {s.buckets, s.heads}));
      const Tensor size = pool.wide(dtable.actual);
      backend->relative_bias_backward({dtable.actual, add}, dbias, bucket);
      reference->relative_bias_backward({dtable.expected, add}, pool.wide(dbias), bucket);
      reference->relative_bias_backward({size, add}, pool.magnitude(dbias), bucket);
      expect_close(dtable.actual, dtable.expected, sum_units(s.queries * s.keys), size, label("dtable", s.heads, s.queries, s.keys));
    }
  }
}

// <bias(table), dbias> = <table, dtable>
TEST_P(RelativeBias, BackwardIsTheAdjoint) {
  const Tensor table = pool.uniform(kF64, {7, 3}), bucket = buckets(9, 11, 7), bias = pool.make(kF64, {3, 9, 11});
  const Tensor dbias = pool.uniform(kF64, {3, 9, 11}), dtable = pool.make(kF64, {7, 3});
  reference->relative_bias(Out(bias), table, bucket);
  reference->relative_bias_backward(Out(dtable), dbias, bucket);
  EXPECT_NEAR(inner_product(bias, dbias), inner_product(table, dtable), 1e-12);
  EXPECT_GT(std::abs(inner_product(table, dtable)), 1e-3);
}

TEST_P(RelativeBias, BucketsOutsideTheTableAreRefused) {
  const Tensor table = exacts({4, 2}), bias = exacts({2, 3, 3}), bucket = pool.of(Dtype::kI32, {5}, {0, 1, 4, 2, 0});
  if (GetParam().looks_at_indices) {
    EXPECT_THROW(backend->relative_bias(Out(bias), table, bucket), InternalError);
    EXPECT_THROW(backend->relative_bias_backward(Out(table), bias, bucket), InternalError);
  }
  EXPECT_THROW(backend->relative_bias(Out(bias), table, bucket.slice_rows(0, 4)), InternalError) << "too few distances";
}

}  // namespace
}  // namespace switchyard
