// Counts what this program allocates, to see that a step allocates nothing. A file of its own: where the compiler saw
// both sides of a new expression, it would take malloc for a mistake.
#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/comm/transport_cases.h"

namespace {

thread_local int64_t allocations = 0;

}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int64_t switchyard::allocations_of_this_thread() { return allocations; }
