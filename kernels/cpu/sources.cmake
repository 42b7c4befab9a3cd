# The loops are one text, built for two levels of the processor. Products are fused only where the text says so, so that
# both builds give the same bits. GCC 12 warns of its own AVX-512 headers, which leave registers undefined on purpose.
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/loops_v3.cpp PROPERTIES COMPILE_OPTIONS "-ffp-contract=off")
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/loops_v4.cpp PROPERTIES COMPILE_OPTIONS "-march=x86-64-v4;-ffp-contract=off;-Wno-uninitialized;-Wno-maybe-uninitialized")
