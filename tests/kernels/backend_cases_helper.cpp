#include "tests/kernels/backend_case.h"

namespace switchyard {

// The reference in F32 is here to prove that the tolerances can be met by plain loops.
std::vector<BackendCase> backend_cases() {
  std::vector<BackendCase> cases = invariance_cases();
  cases.insert(cases.begin(), {"reference_F32", [] { return make_reference_backend(); }, Dtype::kF32});
  return cases;
}

std::vector<BackendCase> invariance_cases() {
  const auto make = [] { return make_cpu_backend(2); };
  return {{"cpu_F32", make, Dtype::kF32}, {"cpu_BF16", make, Dtype::kBF16}};
}

}  // namespace switchyard
