# switchyard_cuda: the backend for GPUs, real or emulated.
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
file(GLOB cuda_hosts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cpp)
switchyard_cuda_sources(${cuda_kernels})
add_library(switchyard_cuda STATIC ${cuda_kernels} ${cuda_hosts})
target_include_directories(switchyard_cuda PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(switchyard_cuda PUBLIC switchyard_kernels switchyard_cuda_toolkit)

# switchyard_nccl: what the ranks of GPUs send one another, and the plug-in's entry.
file(GLOB nccl_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/comm/nccl/*.cu)
file(GLOB nccl_hosts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/comm/nccl/*.cpp)
switchyard_cuda_sources(${nccl_kernels})
add_library(switchyard_nccl STATIC ${nccl_kernels} ${nccl_hosts})
target_link_libraries(switchyard_nccl PUBLIC switchyard_comm switchyard_cuda)

# libswitchyard_cuda.so: all of it, and NVIDIA's runtime or the emulation, behind one symbol. Only what that leads to is in it.
add_library(switchyard_cuda_plugin SHARED ${CMAKE_SOURCE_DIR}/comm/nccl/plugin.map)
set_target_properties(switchyard_cuda_plugin PROPERTIES OUTPUT_NAME switchyard_cuda LINKER_LANGUAGE CXX LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
                                                        LINK_DEPENDS ${CMAKE_SOURCE_DIR}/comm/nccl/plugin.map)
target_link_libraries(switchyard_cuda_plugin PRIVATE switchyard_nccl)
target_link_options(switchyard_cuda_plugin PRIVATE -Wl,--undefined=switchyard_accelerator -Wl,--version-script=${CMAKE_SOURCE_DIR}/comm/nccl/plugin.map)
if(NOT SWITCHYARD_SANITIZE)  # whose functions are the program's
  target_link_options(switchyard_cuda_plugin PRIVATE -Wl,--no-undefined)
endif()
