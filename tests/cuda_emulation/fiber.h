// A flow of control with a stack of its own, of which one at a time runs: one emulated CUDA thread. AddressSanitizer and
// ThreadSanitizer are told of every switch; the latter also that a switch orders nothing.
#pragma once

#include <cstddef>

#include "tests/cuda_emulation/stack_switch.h"

namespace switchyard::emulation {

class Fiber {
 public:
  using Body = void (*)();

  // Throws std::bad_alloc where there is no room for a stack.
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume runs body from its first line. What the stack held is forgotten, not unwound.
  void start(Body body);
  // For the scheduler: runs the fiber until it suspends.
  void resume();
  // For the fiber that runs: back to the scheduler. With last_time it is not resumed before another start.
  void suspend(bool last_time);

 private:
  static void enter();

  std::byte* mapping_ = nullptr;  // a guard page, then the stack
  std::byte* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  StackContext context_{};
  Body body_ = nullptr;
  void* fake_stack_ = nullptr;    // AddressSanitizer's
  void* race_context_ = nullptr;  // ThreadSanitizer's
};

}  // namespace switchyard::emulation
