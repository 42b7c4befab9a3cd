// The emulated device's memory: who owns which bytes, and who may touch them now.
//
// An allocation lies at the end of its pages, before one that cannot be touched; freed addresses stay unreadable for a
// while. Fresh memory holds 0xff bytes, which are NaN as numbers: a read before a write shows.
#pragma once

#include <cstddef>
#include <type_traits>

namespace switchyard::emulation {

enum class MemoryKind { kDevice, kPinnedHost };

// Null where the capacity or the host's memory does not suffice. Size is not 0.
void* allocate(size_t size, MemoryKind kind);
// False for an address that allocate did not return, or of the other kind.
bool release(void* address, MemoryKind kind);

// From address to the end of its allocation; 0 for memory that is not the device's.
size_t device_bytes_from(const void* address);
bool is_pinned_host(const void* address);
size_t device_capacity();

// While one exists, the host may touch device memory: device work runs inside one.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// Null, or in device or pinned memory.
bool kernel_may_follow(const void* pointer);

// Whether every argument of a kernel that is a pointer may be followed. Pointers inside structures are not seen.
template <class... Values>
bool arguments_are_valid(const Values&... values) {
  const auto valid = [](const auto& value) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(value)>>) {
      return kernel_may_follow(static_cast<const void*>(value));
    } else {
      return true;
    }
  };
  return (valid(values) && ...);
}

}  // namespace switchyard::emulation
