// The plug-in: what libswitchyard_cuda.so has to offer.
#include "comm/accelerator.h"

#include <utility>

#include "comm/nccl/nccl.h"
#include "comm/nccl/report.h"
#include "comm/nccl/staged.h"
#include "kernels/cuda/cuda_backend.h"

namespace switchyard::cuda {
namespace {

class CudaAccelerator final : public Accelerator {
 public:
  explicit CudaAccelerator(int number) : gpu_(number), backend_(gpu_), description_(describe_device(number)) {}

  Backend& backend() override { return backend_; }
  std::string description() const override { return description_; }
  std::unique_ptr<Communicator> connect(std::unique_ptr<Communicator> host, const AcceleratorTransport& transport) override {
    return (transport.staged ? make_staged_communicator : make_nccl_communicator)(std::move(host), gpu_, transport);
  }

 private:
  Gpu gpu_;
  CudaBackend backend_;
  std::string description_;
};

std::unique_ptr<Accelerator> open_accelerator(int number) { return std::make_unique<CudaAccelerator>(number); }

constexpr AcceleratorPlugin kPlugin = {kAcceleratorVersion, count_devices, open_accelerator, device_report};

}  // namespace
}  // namespace switchyard::cuda

extern "C" __attribute__((visibility("default"))) const switchyard::AcceleratorPlugin* switchyard_accelerator() { return &switchyard::cuda::kPlugin; }
