// Leaving one stack for another: the only lines of the emulation that depend on the processor.
#pragma once

#include <cstddef>

#if defined(SWITCHYARD_EMULATION_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define SWITCHYARD_EMULATION_BY_UCONTEXT 1
#include <ucontext.h>
#endif

namespace switchyard::emulation {

// A suspended flow of control. With assembly it is a stack pointer, under which the registers lie that a callee keeps;
// elsewhere what ucontext saves, at ten times the cost.
#if defined(SWITCHYARD_EMULATION_BY_UCONTEXT)
using StackContext = ucontext_t;
#else
using StackContext = void*;
#endif

// The first switch to `context` calls entry, which never returns, on [stack, stack + bytes).
void prepare_stack(StackContext& context, std::byte* stack, size_t bytes, void (*entry)());

// Suspends the caller into `from` and goes on at `to`. Returns when someone switches to `from`.
void switch_stack(StackContext& from, StackContext& to);

}  // namespace switchyard::emulation
