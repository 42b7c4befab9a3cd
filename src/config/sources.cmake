# The schema's C++ code, generated into the build folder. Included before switchyard_config is defined, which links it.
set(generated ${CMAKE_BINARY_DIR}/generated)
set(proto ${CMAKE_SOURCE_DIR}/src/config/config.proto)
add_custom_command(
  OUTPUT ${generated}/src/config/config.pb.cc ${generated}/src/config/config.pb.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${generated}
  COMMAND ${PROTOC} --proto_path=${CMAKE_SOURCE_DIR} --cpp_out=${generated} ${proto}
  DEPENDS ${proto} VERBATIM)
add_library(switchyard_schema STATIC ${generated}/src/config/config.pb.cc ${generated}/src/config/config.pb.h)
target_compile_options(switchyard_schema PRIVATE -w)  # not our code
target_include_directories(switchyard_schema SYSTEM PUBLIC ${generated})
target_link_libraries(switchyard_schema PUBLIC switchyard_text)
