#include "tests/cuda_emulation/device_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <map>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises
constexpr size_t kFreedKept = 1024;

struct Mapping {
  std::byte* begin = nullptr;
  size_t bytes = 0;  // without the guard page behind it
};

struct Allocation {
  size_t size = 0;
  Mapping mapping;
  MemoryKind kind = MemoryKind::kDevice;
};

struct Memory {
  std::map<uintptr_t, Allocation> allocations;  // by first byte
  std::deque<Mapping> freed;                    // unreadable, the oldest first
  size_t device_bytes = 0;
  size_t capacity = size_t{8} << 30;
  bool isolation = false;
  int access_depth = 0;
};

Memory& memory() {
  static Memory* const the_memory = new Memory;  // freed by nobody: destructors at the very end may still ask
  return *the_memory;
}

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

void protect_all(int protection) {
  for (const auto& [begin, allocation] : memory().allocations) {
    if (allocation.kind == MemoryKind::kDevice) mprotect(allocation.mapping.begin, allocation.mapping.bytes, protection);
  }
}

// The allocation that holds address, and its bytes from there on; null without one.
const Allocation* find(const void* address, size_t& left) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto next = memory().allocations.upper_bound(at);
  if (next == memory().allocations.begin()) return nullptr;
  --next;
  if (at >= next->first + next->second.size) return nullptr;
  left = next->first + next->second.size - at;
  return &next->second;
}

// Keeps the addresses, so that no later allocation makes a pointer to freed memory valid again; gives back the memory.
void keep_unreadable(Mapping mapping) {
  sanitizers::unpoison(mapping.begin, mapping.bytes);
  mmap(mapping.begin, mapping.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  std::deque<Mapping>& freed = memory().freed;
  freed.push_back(mapping);
  if (freed.size() <= kFreedKept) return;
  munmap(freed.front().begin, freed.front().bytes + kPage);
  freed.pop_front();
}

}  // namespace

void* allocate(size_t size, MemoryKind kind) {
  Memory& state = memory();
  if (kind == MemoryKind::kDevice && (size > state.capacity || state.device_bytes > state.capacity - size)) return nullptr;
  if (size > size_t{1} << 46) return nullptr;  // beyond any address space
  // A run past the end meets the guard page even without a sanitizer, but for the up to 255 bytes of alignment.
  const size_t slot = round_up(size, kAlignment);
  const size_t bytes = round_up(slot, kPage);
  void* mapped = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const Mapping mapping{static_cast<std::byte*>(mapped), bytes};
  mprotect(mapping.begin + bytes, kPage, PROT_NONE);
  std::byte* begin = mapping.begin + bytes - slot;
  std::memset(begin, 0xff, size);
  sanitizers::poison(mapping.begin, bytes);
  sanitizers::unpoison(begin, size);
  state.allocations[reinterpret_cast<uintptr_t>(begin)] = {size, mapping, kind};
  if (kind == MemoryKind::kDevice) {
    state.device_bytes += size;
    if (state.isolation && state.access_depth == 0) mprotect(mapping.begin, bytes, PROT_NONE);
  }
  return begin;
}

bool release(void* address, MemoryKind kind) {
  Memory& state = memory();
  const auto found = state.allocations.find(reinterpret_cast<uintptr_t>(address));
  if (found == state.allocations.end() || found->second.kind != kind) return false;
  if (kind == MemoryKind::kDevice) state.device_bytes -= found->second.size;
  keep_unreadable(found->second.mapping);
  state.allocations.erase(found);
  return true;
}

size_t device_bytes_from(const void* address) {
  size_t left = 0;
  const Allocation* allocation = find(address, left);
  return allocation != nullptr && allocation->kind == MemoryKind::kDevice ? left : 0;
}

bool is_pinned_host(const void* address) {
  size_t left = 0;
  const Allocation* allocation = find(address, left);
  return allocation != nullptr && allocation->kind == MemoryKind::kPinnedHost;
}

size_t live_device_allocations() {
  size_t count = 0;
  for (const auto& [begin, allocation] : memory().allocations) count += allocation.kind == MemoryKind::kDevice ? 1 : 0;
  return count;
}

size_t live_device_bytes() { return memory().device_bytes; }
void set_device_capacity(size_t bytes) { memory().capacity = bytes; }
size_t device_capacity() { return memory().capacity; }

void set_isolation(bool on) {
  memory().isolation = on;
  protect_all(on && memory().access_depth == 0 ? PROT_NONE : PROT_READ | PROT_WRITE);
}

DeviceAccess::DeviceAccess() {
  if (memory().access_depth++ == 0 && memory().isolation) protect_all(PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  if (--memory().access_depth == 0 && memory().isolation) protect_all(PROT_NONE);
}

bool kernel_may_follow(const void* pointer) {
  size_t left = 0;
  return pointer == nullptr || find(pointer, left) != nullptr;
}

}  // namespace switchyard::emulation
