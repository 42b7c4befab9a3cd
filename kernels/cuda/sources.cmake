# switchyard_cuda: the backend for GPUs, real or emulated.
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
file(GLOB cuda_hosts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cpp)
switchyard_cuda_sources(${cuda_kernels})
add_library(switchyard_cuda STATIC ${cuda_kernels} ${cuda_hosts})
target_include_directories(switchyard_cuda PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(switchyard_cuda PUBLIC switchyard_kernels switchyard_cuda_toolkit)

# switchyard_nccl: what the ranks of GPUs send one another.
file(GLOB nccl_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/comm/nccl/*.cpp)
if(nccl_sources)
  add_library(switchyard_nccl STATIC ${nccl_sources})
  target_link_libraries(switchyard_nccl PUBLIC switchyard_comm switchyard_cuda)
endif()
