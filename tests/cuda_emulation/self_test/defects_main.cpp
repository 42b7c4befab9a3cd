// defects NAME: commits one defect. Ends with 0 and "noticed: ..." where the emulation noticed it, with 3 where nobody did;
// sanitizers and signals end it in their own way. defects_test.cpp holds what is expected.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/defects.h"

namespace switchyard::emulation {

void notice(const std::string& how) {
  std::printf("noticed: %s\n", how.c_str());
  std::fflush(stdout);
  std::_Exit(0);
}

void settle(cudaError_t launched) {
  const cudaError_t error = launched != cudaSuccess ? launched : cudaDeviceSynchronize();
  if (error != cudaSuccess) notice("error " + std::to_string(error) + ": " + cudaGetErrorString(error));
}

void compare_schedules(const std::function<std::vector<float>()>& program) {
  const std::vector<float> expected = program();
  for (const Schedule schedule : {Schedule{Order::kReverse}, Schedule{Order::kWarpAhead}, Schedule{Order::kWarpAheadReverse}, Schedule{Order::kRandom, 2},
                                  Schedule{Order::kRandom, 3}}) {
    set_schedule(schedule);
    if (program() != expected) notice("results differ between schedules");
  }
  set_schedule({});
}

}  // namespace switchyard::emulation

int main(int argc, char** argv) {
  using namespace switchyard::emulation;
  for (const auto defects : {defects_of_kernels(), defects_of_hosts()}) {
    for (const Defect& defect : defects) {
      if (argc != 2 || std::string_view(defect.name) != argv[1]) continue;
      defect.run();
      std::puts("unnoticed");
      std::fflush(stdout);
      std::_Exit(3);
    }
  }
  std::fputs("usage: defects NAME\n", stderr);
  return 2;
}
