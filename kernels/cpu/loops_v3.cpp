#define SWITCHYARD_ISA simd_v3
#define SWITCHYARD_LOOPS loops_v3
#include "kernels/cpu/loops_table.h"
