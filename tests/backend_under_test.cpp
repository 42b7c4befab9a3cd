#include "tests/backend_under_test.h"

namespace switchyard::test {

std::unique_ptr<Backend> backend_under_test(int threads) { return make_cpu_backend(threads); }

}  // namespace switchyard::test
