// Programs that are wrong in one way each, and what they share.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace switchyard::emulation {

struct Defect {
  const char* name;
  void (*run)();  // returns where nobody noticed
};
std::span<const Defect> defects_of_kernels();
std::span<const Defect> defects_of_hosts();

// Prints what noticed the defect and ends the process with 0.
[[noreturn]] void notice(const std::string& how);

// Notices an error of the launch, or of the kernel that it launched.
void settle(cudaError_t launched);

// Runs a program under four schedules and notices that its results differ.
void compare_schedules(const std::function<std::vector<float>()>& program);

}  // namespace switchyard::emulation
