#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/matmul.h"

namespace switchyard::cuda {

CudaBackend::CudaBackend(Gpu& gpu) : gpu_(gpu), workspace_(gpu.memory()), products_(std::make_unique<Products>(gpu)) {}

CudaBackend::~CudaBackend() = default;

}  // namespace switchyard::cuda
