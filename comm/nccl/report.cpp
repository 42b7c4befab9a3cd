#include "comm/nccl/report.h"

#include <cublasLt.h>
#include <fmt/format.h>
#include <nccl.h>

#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {
namespace {

// CUDA says 13000 for 13.0.
std::string cuda_version(int code) { return fmt::format("{}.{}", code / 1000, code % 1000 / 10); }
// cuBLAS and NCCL say 22809 for 2.28.9.
std::string library_version(int code) { return fmt::format("{}.{}.{}", code / 10000, code % 10000 / 100, code % 100); }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}
int runtime_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}

std::string nccl_version() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? library_version(version) : "unknown";
}
std::string cublas_version() { return library_version(static_cast<int>(cublasLtGetVersion())); }

cudaDeviceProp properties_of(int number) {
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, number), "cudaGetDeviceProperties");
  return properties;
}

std::string memory_and_size(const cudaDeviceProp& device) {
  return fmt::format("{}, {:.1f} GiB, compute capability {}.{}, {} multiprocessors", device.name, static_cast<double>(device.totalGlobalMem) / (1 << 30),
                     device.major, device.minor, device.multiProcessorCount);
}

// The devices whose memory this one reaches without the host.
std::string peers_of(int number, int count) {
  std::string peers;
  for (int peer = 0; peer < count; ++peer) {
    int can = 0;
    if (peer != number && cudaDeviceCanAccessPeer(&can, number, peer) == cudaSuccess && can != 0) peers += fmt::format("{}{}", peers.empty() ? "" : ", ", peer);
  }
  return peers.empty() ? "none" : peers;
}

}  // namespace

std::string why_no_device(cudaError_t status, int driver, int runtime) {
  const std::string needed = cuda_version(runtime);
  switch (status) {
    case cudaErrorInsufficientDriver:
      if (driver == 0) return "no NVIDIA driver is installed";
      return fmt::format("the NVIDIA driver knows CUDA {} at most, this program needs {}: install a newer driver", cuda_version(driver), needed);
    case cudaErrorStubLibrary: return "libcuda.so.1 is the toolkit's stub, not the NVIDIA driver's: take its folder out of LD_LIBRARY_PATH";
    case cudaSuccess:
    case cudaErrorNoDevice: return "the NVIDIA driver finds no GPU; CUDA_VISIBLE_DEVICES may hide them";
    default: return fmt::format("the GPUs cannot be counted: {}: {}", cudaGetErrorName(status), cudaGetErrorString(status));
  }
}

int count_devices(std::string& sentence) noexcept {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  static_cast<void>(cudaGetLastError());  // it is dealt with
  sentence = why_no_device(status, driver_version(), runtime_version());
  return 0;
}

std::string describe_device(int number) {
  return fmt::format("{}, device {}; driver {}, runtime {}, cuBLAS {}, NCCL {}", properties_of(number).name, number, cuda_version(driver_version()),
                     cuda_version(runtime_version()), cublas_version(), nccl_version());
}

std::string device_report() noexcept {
  std::string lines;
  try {
    lines = fmt::format("CUDA runtime\t{}\ncuBLAS\t{}\nNCCL\t{}\n", cuda_version(runtime_version()), cublas_version(), nccl_version());
    std::string sentence;
    const int count = count_devices(sentence);
    if (count == 0) return lines + fmt::format("GPUs\tnone: {}\n", sentence);
    lines += fmt::format("GPU driver\tCUDA {}\nGPUs\t{}\n", cuda_version(driver_version()), count);
    for (int number = 0; number < count; ++number) {
      lines += fmt::format("GPU {}\t{}\n", number, memory_and_size(properties_of(number)));
      if (count > 1) lines += fmt::format("GPU {} reaches\t{}\n", number, peers_of(number, count));
    }
  } catch (const std::exception& error) {
    lines += fmt::format("GPUs\tno more is known: {}\n", error.what());
  }
  return lines;
}

}  // namespace switchyard::cuda
