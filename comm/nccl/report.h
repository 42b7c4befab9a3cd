// What this process finds of GPUs and NVIDIA's libraries, in words.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace switchyard::cuda {

// How many devices there are; 0 with the reason in `sentence`. It asks CUDA's runtime alone, as everything else fails, or
// costs a tenth of a second, where there is no driver.
int count_devices(std::string& sentence) noexcept;

// Why there is no device, by what the count of devices answered. `driver`: its version, 0 where there is none.
std::string why_no_device(cudaError_t status, int driver, int runtime);

// "NVIDIA H100 80GB HBM3, device 0; driver 13.0, runtime 13.0, cuBLAS 13.1.0, NCCL 2.28.9"
std::string describe_device(int number);

// Lines of name, tab, finding.
std::string device_report() noexcept;

}  // namespace switchyard::cuda
