# switchyard_cuda_toolkit is what a file that calls CUDA links: NVIDIA's runtime, cuBLAS and NCCL, or their emulation. It
# also finds <device/seam.h>. Tests link switchyard_cuda_testing, which adds <device/schedules.h>.
# switchyard_cuda_sources(FILES) says that these .cu files belong to the folder at hand.
if(SWITCHYARD_CUDA STREQUAL "ON")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 does not know that nvcc speaks C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  find_package(CUDAToolkit REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  add_library(switchyard_cuda_toolkit INTERFACE)
  target_include_directories(switchyard_cuda_toolkit INTERFACE ${CMAKE_SOURCE_DIR}/kernels/cuda)
  target_include_directories(switchyard_cuda_toolkit SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
  target_compile_options(switchyard_cuda_toolkit INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;--expt-relaxed-constexpr>")
  target_link_libraries(switchyard_cuda_toolkit INTERFACE CUDA::cudart_static CUDA::cublas CUDA::cublasLt ${NCCL_LIBRARY})
  add_library(switchyard_cuda_testing INTERFACE)
  target_include_directories(switchyard_cuda_testing INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/tests/cuda_emulation/gpu)
  target_link_libraries(switchyard_cuda_testing INTERFACE switchyard_cuda_toolkit)

  function(switchyard_cuda_sources)
  endfunction()
else()
  include(tests/cuda_emulation/sources.cmake)
  add_library(switchyard_cuda_toolkit INTERFACE)
  target_link_libraries(switchyard_cuda_toolkit INTERFACE switchyard_cuda_emulation)
  add_library(switchyard_cuda_testing ALIAS switchyard_cuda_toolkit)

  function(switchyard_cuda_sources)  # CMake adds -x c++ by itself
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  endfunction()
endif()
