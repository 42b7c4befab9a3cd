// Runs a grid: its blocks one after another, the threads of a block as fibers.
#pragma once

#include <driver_types.h>
#include <vector_types.h>

#include <cstddef>
#include <functional>

namespace switchyard::emulation {

struct GridShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
  const void* kernel = nullptr;  // names it, for cudaFuncSetAttribute
};

// `kernel` is called once for each thread. Returns false after a fault: the block was abandoned where it stood, later
// blocks have not run, and last_fault() says what happened where.
bool run_grid(const GridShape& shape, const std::function<void()>& kernel);
const char* last_fault();

// A fault that is found outside kernels, by the libraries.
void set_last_fault(const char* sentence);

}  // namespace switchyard::emulation
