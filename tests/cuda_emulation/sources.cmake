# switchyard_cuda_emulation: CUDA's runtime, cuBLAS and NCCL on the host, for tests; README.md beside this file.
#
# It is compiled against the vendor's headers where they are, so that a wrong prototype does not compile, else against our
# stand-ins.
option(SWITCHYARD_CUDA_STAND_IN "Take the stand-in headers even where the CUDA toolkit is" OFF)
find_path(SWITCHYARD_CUDA_HEADERS cuda_runtime_api.h HINTS ENV CUDA_HOME PATH_SUFFIXES include PATHS /usr/local/cuda/include)
set(stand_in ${SWITCHYARD_CUDA_STAND_IN})
foreach(header cublas_v2.h cublasLt.h nccl.h cuda_bf16.h)
  if(NOT SWITCHYARD_CUDA_HEADERS OR NOT EXISTS ${SWITCHYARD_CUDA_HEADERS}/${header})
    set(stand_in ON)
  endif()
endforeach()

set(emulation ${CMAKE_SOURCE_DIR}/tests/cuda_emulation)
file(GLOB sources CONFIGURE_DEPENDS ${emulation}/*.cpp)
add_library(switchyard_cuda_emulation STATIC ${sources})
target_include_directories(switchyard_cuda_emulation PUBLIC ${CMAKE_SOURCE_DIR} ${emulation})  # the latter for <device/seam.h>
if(stand_in)
  message(STATUS "CUDA is emulated, with stand-ins for its headers")
  target_include_directories(switchyard_cuda_emulation PUBLIC ${emulation}/headers)
else()
  message(STATUS "CUDA is emulated, with the headers of ${SWITCHYARD_CUDA_HEADERS}")
  target_include_directories(switchyard_cuda_emulation SYSTEM PUBLIC ${SWITCHYARD_CUDA_HEADERS})
endif()
target_compile_options(switchyard_cuda_emulation PUBLIC -Wno-unknown-pragmas)  # of #pragma unroll
target_link_libraries(switchyard_cuda_emulation PUBLIC MPI::MPI_C)
if(SWITCHYARD_SANITIZE MATCHES "thread")  # which watches kernels and tests, not the emulation
  target_compile_options(switchyard_cuda_emulation PRIVATE -fno-sanitize=thread)
  target_compile_definitions(switchyard_cuda_emulation PRIVATE SWITCHYARD_EMULATION_TSAN)
endif()
