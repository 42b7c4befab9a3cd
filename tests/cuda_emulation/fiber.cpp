#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <new>

#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

constexpr size_t kStackBytes = sanitizers::kAddressChecks || sanitizers::kRaceDetection ? 256 * 1024 : 64 * 1024;
constexpr size_t kGuardBytes = 4096;

// The scheduler's side of a switch. It is one, as kernels run on one thread of the operating system.
struct Scheduler {
  StackContext context{};
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
  void* race_context = nullptr;
  Fiber* running = nullptr;
  size_t stacks = 0;  // made so far
};

Scheduler& scheduler() {
  static Scheduler the_scheduler;
  return the_scheduler;
}

}  // namespace

Fiber::Fiber() {
  void* mapping = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(mapping);
  mprotect(mapping_, kGuardBytes, PROT_NONE);
  stack_ = mapping_ + kGuardBytes;
  // With their tops at equal offsets all stacks would share one set of the processor's cache.
  stack_bytes_ = kStackBytes - scheduler().stacks++ % 32 * 128;
}

Fiber::~Fiber() {
#if defined(SWITCHYARD_EMULATION_TSAN)
  if (race_context_ != nullptr) __tsan_destroy_fiber(race_context_);
#endif
  sanitizers::unpoison(stack_, stack_bytes_);
  munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::start(Body body) {
  body_ = body;
  fake_stack_ = nullptr;
  sanitizers::unpoison(stack_, stack_bytes_);
#if defined(SWITCHYARD_EMULATION_TSAN)
  if (race_context_ == nullptr) race_context_ = __tsan_create_fiber(0);
#endif
  prepare_stack(context_, stack_, stack_bytes_, &Fiber::enter);
}

void Fiber::resume() {
  Scheduler& side = scheduler();
  side.running = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&side.fake_stack, stack_, stack_bytes_);
#endif
#if defined(SWITCHYARD_EMULATION_TSAN)
  side.race_context = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(race_context_, __tsan_switch_to_fiber_no_sync);
#endif
  switch_stack(side.context, context_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(side.fake_stack, nullptr, nullptr);
#endif
}

void Fiber::suspend([[maybe_unused]] bool last_time) {
  Scheduler& side = scheduler();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last_time ? nullptr : &fake_stack_, side.stack, side.stack_bytes);
#endif
#if defined(SWITCHYARD_EMULATION_TSAN)
  __tsan_switch_to_fiber(side.race_context, __tsan_switch_to_fiber_no_sync);
#endif
  switch_stack(context_, side.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &side.stack, &side.stack_bytes);
#endif
}

void Fiber::enter() {
  Scheduler& side = scheduler();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &side.stack, &side.stack_bytes);
#endif
  side.running->body_();
  side.running->suspend(true);
}

}  // namespace switchyard::emulation
