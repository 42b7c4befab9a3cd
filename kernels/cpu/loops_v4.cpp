// Built with -march=x86-64-v4 (kernels/cpu/sources.cmake).
#define SWITCHYARD_ISA simd_v4
#define SWITCHYARD_LOOPS loops_v4
#include "kernels/cpu/loops_table.h"
