#include "tests/cuda_emulation/stack_switch.h"

#include <algorithm>

#if !defined(SWITCHYARD_EMULATION_BY_UCONTEXT)
// void switchyard_emulation_switch(void** save, void* load): pushes what a callee must keep, stores the stack pointer
// in *save, takes load for it, and pops. The floating-point control words are the same on all stacks.
extern "C" void switchyard_emulation_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.globl switchyard_emulation_switch
.hidden switchyard_emulation_switch
.type switchyard_emulation_switch,@function
switchyard_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size switchyard_emulation_switch,.-switchyard_emulation_switch
)");
#else
asm(R"(
.text
.globl switchyard_emulation_switch
.hidden switchyard_emulation_switch
.type switchyard_emulation_switch,%function
switchyard_emulation_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size switchyard_emulation_switch,.-switchyard_emulation_switch
)");
#endif
#endif

namespace switchyard::emulation {

#if defined(SWITCHYARD_EMULATION_BY_UCONTEXT)

void prepare_stack(StackContext& context, std::byte* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void switch_stack(StackContext& from, StackContext& to) { swapcontext(&from, &to); }

#else

// Lays out what switchyard_emulation_switch pops. `bytes` is a multiple of 16.
void prepare_stack(StackContext& context, std::byte* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes);
#if defined(__x86_64__)
  *--top = nullptr;  // so that entry begins with its stack pointer at 16 n + 8, as after a call
  *--top = reinterpret_cast<void*>(entry);
  top -= 6;
  std::fill_n(top, 6, nullptr);
#else
  top -= 20;
  std::fill_n(top, 20, nullptr);
  top[11] = reinterpret_cast<void*>(entry);  // x30, to which ret goes
#endif
  context = top;
}

void switch_stack(StackContext& from, StackContext& to) { switchyard_emulation_switch(&from, to); }

#endif

}  // namespace switchyard::emulation
