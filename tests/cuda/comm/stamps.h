// Work for the compute stream whose result tells when it ran.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/tensor.h"

namespace switchyard::cuda {

// Element i of an F32 tensor becomes first + i.
void stamp(cudaStream_t stream, const Tensor& x, float first);
// Every element of an F32 tensor plus y.
void add(cudaStream_t stream, const Tensor& x, float y);
// The elements of one F32 tensor to another of as many.
void copy(cudaStream_t stream, const Tensor& to, const Tensor& from);

}  // namespace switchyard::cuda
