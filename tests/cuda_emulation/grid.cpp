#include "tests/cuda_emulation/grid.h"

#include <algorithm>
#include <cstdio>

#include "tests/cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

void make_current(Engine& state, Thread& thread) {
  state.current = &thread;
  this_thread = &thread.view;
}

// The thread returned from the kernel: a fault where others wait for it.
void leave_kernel(Engine& state, Thread& thread) {
  thread.left = true;
  --state.alive;
  Warp& warp = state.warps[thread.linear / kWarpSize];
  warp.left |= 1u << (thread.linear % kWarpSize);
  if (state.barrier.arrived > 0) {
    fault("%s left the kernel while others wait in __syncthreads at %s", describe(thread).characters, describe(state.barrier.where).characters);
  }
  for (const WarpGroup& group : warp.groups) {
    if ((group.mask & warp.left) != 0) {
      fault("%s left the kernel while its warp waits for it at %s", describe(thread).characters, describe(group.where).characters);
    }
  }
}

// The next thread, if its turn has come, it has not begun, and it may begin on this fiber.
Thread* next_to_begin(Engine& state) {
  const bool in_turn = state.schedule.order == Order::kForward || state.schedule.order == Order::kReverse;
  if (sanitizers::kRaceDetection || !in_turn || state.ready.size() == 0) return nullptr;
  Thread& next = state.threads[state.ready.front()];
  if (next.fiber != nullptr) return nullptr;
  state.ready.pop();
  return &next;
}

// A fiber's life: run a CUDA thread, then, while the next in turn has not begun, that one too. Kernels that never wait so
// run as a plain loop, without a switch.
void fiber_body() {
  Engine& state = engine();
  for (;;) {
    Thread& self = *state.current;
    sanitizers::acquire(&state.block_start);
    (*state.kernel)();
    sanitizers::release(&state.grid_end);
    const sanitizers::Unwatched unwatched;
    leave_kernel(state, self);
    Thread* next = next_to_begin(state);
    if (next == nullptr) break;
    std::swap(next->fiber, self.fiber);
    make_current(state, *next);
  }
  Fiber* const own = state.current->fiber;
  {
    const sanitizers::Unwatched unwatched;
    state.idle_fibers.push_back(own);
    state.current->fiber = nullptr;
  }
  own->suspend(true);
}

void add_fiber(Engine& state) {
  state.fibers.push_back(std::make_unique<Fiber>());
  state.idle_fibers.push_back(state.fibers.back().get());
}

// ThreadSanitizer's context stays with a fiber and orders the threads that the fiber runs one after another. So each thread
// of a block has a fiber of its own, and the pool is turned by one for each block: thread i of one block is then not
// ordered with thread i of the next.
void turn_fibers(Engine& state) {
  while (state.idle_fibers.size() < state.threads.size()) add_fiber(state);
  state.idle_fibers.push_back(state.idle_fibers.front());
  state.idle_fibers.pop_front();
}

void begin_block(Engine& state, uint3 block) {
  const size_t count = state.threads.size();
  state.alive = count;
  ++state.block_serial;
  state.barrier.arrived = 0;
  state.barrier.votes = 0;
  state.warps.resize((count + kWarpSize - 1) / kWarpSize);
  for (size_t w = 0; w < state.warps.size(); ++w) {
    Warp& warp = state.warps[w];
    const size_t lanes = std::min<size_t>(kWarpSize, count - w * kWarpSize);
    warp.groups.clear();
    warp.left = 0;
    warp.existing = lanes == kWarpSize ? ~0u : (1u << lanes) - 1u;
  }
  for (Thread& thread : state.threads) {
    thread.view.block = block;
    thread.left = false;
    thread.fiber = nullptr;
  }
  state.ready.reset(count);
  for (size_t i = 0; i < count; ++i) state.ready.push(static_cast<unsigned>(state.schedule.order == Order::kReverse ? count - 1 - i : i));
  begin_block_memory();
  sanitizers::release(&state.block_start);
  if constexpr (sanitizers::kRaceDetection) turn_fibers(state);
}

void give_fiber(Engine& state, Thread& thread) {
  if (state.idle_fibers.empty()) add_fiber(state);
  if constexpr (sanitizers::kRaceDetection) {
    thread.fiber = state.idle_fibers.front();
    state.idle_fibers.pop_front();
  } else {
    thread.fiber = state.idle_fibers.back();
    state.idle_fibers.pop_back();
  }
  thread.fiber->start(&fiber_body);
}

void describe_deadlock(Engine& state) {
  Text warps{"-"};
  for (const Warp& warp : state.warps) {
    if (!warp.groups.empty()) warps = describe(warp.groups.front().where);
  }
  const Text barrier = state.barrier.arrived > 0 ? describe(state.barrier.where) : Text{"-"};
  std::snprintf(state.fault_text, sizeof state.fault_text, "deadlock: every thread of the block waits; __syncthreads at %s, warps at %s", barrier.characters,
                warps.characters);
}

unsigned pop_ready(Engine& state) {
  switch (state.schedule.order) {
    case Order::kForward:
    case Order::kReverse: return state.ready.pop();
    case Order::kRandom: return state.ready.pop(state.random);
    case Order::kWarpAhead: return state.ready.pop_of_warp(false);
    case Order::kWarpAheadReverse: return state.ready.pop_of_warp(true);
  }
  return state.ready.pop();
}

// Returns false after a fault.
bool run_block(Engine& state, uint3 block) {
  begin_block(state, block);
  while (state.alive > 0 && !state.faulted) {
    if (state.ready.size() == 0) {
      state.faulted = true;
      describe_deadlock(state);
      break;
    }
    Thread& next = state.threads[pop_ready(state)];
    if (next.fiber == nullptr) give_fiber(state, next);
    make_current(state, next);
    ++state.statistics.switches;
    next.fiber->resume();
  }
  if (!state.faulted) return true;
  sanitizers::acquire(&state.abandoned);
  state.idle_fibers.clear();  // those in mid-kernel are given up with their stacks
  state.fibers.clear();
  return false;
}

void lay_out_threads(Engine& state, const GridShape& shape) {
  const size_t count = size_t{shape.block.x} * shape.block.y * shape.block.z;
  state.threads.resize(count);
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = state.threads[i];
    const auto number = static_cast<unsigned>(i);
    thread.linear = number;
    thread.view.thread = {number % shape.block.x, number / shape.block.x % shape.block.y, number / shape.block.x / shape.block.y};
    thread.view.block_extent = shape.block;
    thread.view.grid_extent = shape.grid;
  }
}

}  // namespace

bool run_grid(const GridShape& shape, const std::function<void()>& kernel) {
  Engine& state = engine();
  state.shape = &shape;
  state.kernel = &kernel;
  state.faulted = false;
  lay_out_threads(state, shape);
  const uint64_t blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  ++state.statistics.grids;
  state.statistics.blocks += blocks;
  state.statistics.threads += blocks * state.threads.size();
  const Order order = state.schedule.order;
  const uint64_t offset = order == Order::kRandom ? state.random.below(blocks) : 0;
  bool complete = true;
  for (uint64_t i = 0; complete && i < blocks; ++i) {
    const uint64_t b = order == Order::kReverse ? blocks - 1 - i : (i + offset) % blocks;
    complete = run_block(state, {static_cast<unsigned>(b % shape.grid.x), static_cast<unsigned>(b / shape.grid.x % shape.grid.y),
                                 static_cast<unsigned>(b / shape.grid.x / shape.grid.y)});
  }
  sanitizers::acquire(&state.grid_end);
  this_thread = nullptr;
  return complete;
}

}  // namespace switchyard::emulation
