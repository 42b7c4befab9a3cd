// The backends that a folder's tests run on. tests/kernels and tests/cuda each define backend_cases().
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <vector>

#include "kernels/backend.h"

namespace switchyard {

// How large the comparisons of equal bits are; tokens is a multiple of sequence, width of heads.
struct Extents {
  int64_t tokens = 300, width = 200, sequence = 100, heads = 5, vocabulary = 1001, experts = 17;
  int64_t elements = 70001;  // of a long vector
  std::vector<int64_t> inner = {64, 256, 1024, 2048, 3072};
};

struct BackendCase {
  const char* name;
  std::unique_ptr<Backend> (*make)();  // null where this machine lacks the device
  Dtype activation;
  bool looks_at_indices = true;  // refuses those outside their range
  Extents extents = {};
};
inline void PrintTo(const BackendCase& c, std::ostream* out) { *out << c.name; }
inline std::string case_name(const testing::TestParamInfo<BackendCase>& c) { return c.param.name; }

// Those that are compared with the reference.
std::vector<BackendCase> backend_cases();
// Those that promise equal bits.
std::vector<BackendCase> invariance_cases();

}  // namespace switchyard
