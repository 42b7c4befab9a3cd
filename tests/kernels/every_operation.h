// Every operation of a backend, on numbers that depend on the order of draws only. Tests run it twice, under conditions that
// must not matter, and compare the bits.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/backend_case.h"
#include "tests/kernels/compare.h"

namespace switchyard {

struct EveryOperation {
  Backend& backend;
  Dtype activation;
  Extents extents;
  Pool pool;
  Pool aligned{};                                            // packed matrices come from arenas, which align
  std::vector<std::pair<std::string, Tensor>> results = {};  // by name, in the order of the calls

  // `shift`: see Pool.
  EveryOperation(Backend& of, Dtype dtype, Extents how_large = {}, int64_t shift = 0)
      : backend(of), activation(dtype), extents(std::move(how_large)), pool(shift) {}

  Tensor act(Shape shape, double low = -1, double high = 1) { return pool.uniform(activation, shape, low, high); }
  Tensor exact(Shape shape, double low = -1, double high = 1) { return pool.uniform(Dtype::kF32, shape, low, high); }
  // A tensor with numbers in it, kept as a result.
  Tensor result(const std::string& name, Dtype dtype, Shape shape);
  PackedMatrix pack(int64_t out, int64_t in, Side side);

  void memory();
  void elementwise();
  void sums();
  void activations();
  void products();
  void outer_products();
  void embedding();
  void norms();
  void attention();
  void relative_bias();
  void loss();
  void updates();
  void routing();
  void rows();
  void payloads();

  void all();
};

// The parts of all(), by name.
struct OperationPart {
  const char* name;
  void (EveryOperation::*run)();
};
const std::vector<OperationPart>& operation_parts();

void expect_same_results(const EveryOperation& actual, const EveryOperation& expected, const std::string& when);

}  // namespace switchyard
