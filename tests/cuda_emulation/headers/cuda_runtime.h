// A stand-in for the vendor's header of this name: what the project uses of it, with the vendor's values.
#pragma once

#include <cuda_runtime_api.h>
