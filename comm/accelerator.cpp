#include "comm/accelerator.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <filesystem>

namespace switchyard {
namespace {

constexpr const char* kLibrary = "libswitchyard_cuda.so";

// The folder of the program; empty where the system does not tell.
std::filesystem::path program_folder() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path() : program.parent_path();
}

const char* last_error() {
  const char* text = dlerror();
  return text == nullptr ? "the loader does not say why" : text;
}

}  // namespace

const AcceleratorPlugin* open_accelerator_plugin(std::string& sentence) {
  const std::filesystem::path beside = program_folder() / kLibrary;
  std::error_code error;
  const bool is_beside = std::filesystem::exists(beside, error);
  // Never closed: what it has started may run until the process ends.
  void* library = dlopen(is_beside ? beside.c_str() : kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    sentence = is_beside ? "the plug-in for GPUs cannot be opened: " + std::string(last_error())
                         : "there is no plug-in for GPUs, " + std::string(kLibrary) + ", beside the program; build it with -DSWITCHYARD_CUDA=ON";
    return nullptr;
  }
  using Entry = const AcceleratorPlugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kAcceleratorEntry));
  if (entry == nullptr || entry()->version != kAcceleratorVersion) {
    sentence = "the plug-in for GPUs is not of this program's version; build both together";
    return nullptr;
  }
  return entry();
}

}  // namespace switchyard
