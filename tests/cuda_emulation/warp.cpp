// Shuffles, votes and __syncwarp. The last lane of the mask to arrive computes every lane's result, so that no lane can
// overwrite what another has still to read.
#include <algorithm>

#include "tests/cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

bool has(uint32_t mask, unsigned lane) { return (mask >> lane & 1u) != 0; }

// The lane that `lane` reads; itself where its source lies outside its segment (CUDA C++ Programming Guide, warp shuffle).
int source_lane(const WarpGroup& group, unsigned lane) {
  const int own = static_cast<int>(lane);
  const int segment = own / group.width * group.width;
  const int argument = group.argument[lane];
  switch (group.operation) {
    case WarpOperation::kShuffleIndex: return segment + (argument & (group.width - 1));
    case WarpOperation::kShuffleUp: return own - argument < segment ? own : own - argument;
    case WarpOperation::kShuffleDown: return own + argument >= segment + group.width ? own : own + argument;
    default: return (own ^ argument) >= segment + group.width ? own : own ^ argument;
  }
}

uint64_t shuffled(const WarpGroup& group, unsigned lane) {
  const int source = source_lane(group, lane);
  if (source < 0 || source >= static_cast<int>(kWarpSize) || !has(group.mask, static_cast<unsigned>(source))) {
    fault("shuffle at %s: lane %u reads lane %d, which is not in the mask 0x%08x", describe(group.where).characters, lane, source, group.mask);
  }
  return group.operand[source];
}

// The lanes of the mask for which `holds`.
template <class Holds>
uint64_t lanes_where(const WarpGroup& group, Holds holds) {
  uint64_t lanes = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (has(group.mask, lane) && holds(group.operand[lane])) lanes |= uint64_t{1} << lane;
  }
  return lanes;
}

uint64_t result_of(const WarpGroup& group, unsigned lane) {
  switch (group.operation) {
    case WarpOperation::kSync: return 0;
    case WarpOperation::kBallot: return lanes_where(group, [](uint64_t operand) { return operand != 0; });
    case WarpOperation::kMatchAny: return lanes_where(group, [&](uint64_t operand) { return operand == group.operand[lane]; });
    default: return shuffled(group, lane);
  }
}

void check_mask(const Thread& self, const Warp& warp, uint32_t mask, int width, CallSite where) {
  if (!has(mask, self.linear % kWarpSize)) {
    fault("%s is not in the mask 0x%08x that it passes at %s", describe(self).characters, mask, describe(where).characters);
  }
  if ((mask & ~warp.existing) != 0) fault("the mask 0x%08x at %s names lanes that the block does not have", mask, describe(where).characters);
  if ((mask & warp.left) != 0) fault("the mask 0x%08x at %s names a lane that left the kernel", mask, describe(where).characters);
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) fault("a shuffle's width is %d at %s, not a power of two", width, describe(where).characters);
}

void finish(Engine& state, Warp& warp, std::vector<WarpGroup>::iterator group, const Thread& last) {
  ++state.statistics.warp_operations;
  ++warp.generation;
  const WarpGroup complete = *group;
  warp.groups.erase(group);
  const unsigned own = last.linear % kWarpSize;
  const unsigned first = last.linear - own;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (!has(complete.mask, lane)) continue;
    state.threads[first + lane].warp_result = result_of(complete, lane);
    if (lane != own) state.ready.push(first + lane);
  }
}

}  // namespace

uint64_t warp_operation(WarpOperation operation, uint32_t mask, uint64_t operand, int argument, int width, CallSite where) {
  const sanitizers::Unwatched unwatched;
  Engine& state = engine();
  const Thread& self = *state.current;
  Warp& warp = state.warps[self.linear / kWarpSize];
  const unsigned lane = self.linear % kWarpSize;
  check_mask(self, warp, mask, width, where);
  auto group = std::find_if(warp.groups.begin(), warp.groups.end(), [mask](const WarpGroup& waiting) { return (waiting.mask & mask) != 0; });
  if (group == warp.groups.end()) {
    warp.groups.push_back({operation, mask, 0, width, where, {}, {}});
    group = warp.groups.end() - 1;
  } else if (group->mask != mask || group->operation != operation || group->width != width || !(group->where == where)) {
    fault("divergent warp operation: %s at %s, lanes of its mask at %s", describe(self).characters, describe(where).characters,
          describe(group->where).characters);
  }
  group->arrived |= 1u << lane;
  group->operand[lane] = operand;
  group->argument[lane] = argument;
  // Only __syncwarp orders memory; shuffles and votes do not.
  const bool orders = operation == WarpOperation::kSync;
  char* token = &warp.tokens[warp.generation % 2];
  if (orders) sanitizers::release(token);
  if (group->arrived != mask) {
    wait_for_others();
  } else {
    finish(state, warp, group, self);
  }
  if (orders) sanitizers::acquire(token);
  return self.warp_result;
}

}  // namespace switchyard::emulation
