// __syncthreads and its votes.
#include "tests/cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

// All have arrived: every thread is ready again, in the order of the schedule. Forward, the last to arrive goes on at once.
void open_barrier(Engine& state, const Thread& last) {
  Barrier& barrier = state.barrier;
  ++state.statistics.barriers;
  ++barrier.generation;
  barrier.result = barrier.votes;
  barrier.arrived = 0;
  barrier.votes = 0;
  const Order order = state.schedule.order;
  const auto count = static_cast<unsigned>(state.threads.size());
  for (unsigned i = 0; i < count; ++i) {
    const unsigned thread = order == Order::kReverse ? count - 1 - i : i;
    if (thread != last.linear || order != Order::kForward) state.ready.push(thread);
  }
  if (order != Order::kForward) wait_for_others();
}

int outcome(BarrierVote vote, int votes, int threads) {
  switch (vote) {
    case BarrierVote::kCount: return votes;
    case BarrierVote::kAll: return votes == threads ? 1 : 0;
    case BarrierVote::kAny: return votes != 0 ? 1 : 0;
    case BarrierVote::kNone: break;
  }
  return 0;
}

}  // namespace

int block_barrier(BarrierVote vote, int predicate, CallSite where) {
  const sanitizers::Unwatched unwatched;
  Engine& state = engine();
  Barrier& barrier = state.barrier;
  const Thread& self = *state.current;
  if (state.alive != state.threads.size()) {
    fault("%s waits in __syncthreads at %s for a thread that left the kernel", describe(self).characters, describe(where).characters);
  }
  if (barrier.arrived == 0) {
    barrier.where = where;
  } else if (!(barrier.where == where)) {
    fault("divergent __syncthreads: %s at %s, others at %s", describe(self).characters, describe(where).characters, describe(barrier.where).characters);
  }
  barrier.votes += predicate != 0 ? 1 : 0;
  ++barrier.arrived;
  char* token = &barrier.tokens[barrier.generation % 2];
  sanitizers::release(token);
  if (barrier.arrived < state.threads.size()) {
    wait_for_others();
  } else {
    open_barrier(state, self);
  }
  sanitizers::acquire(token);
  return outcome(vote, barrier.result, static_cast<int>(state.threads.size()));
}

}  // namespace switchyard::emulation
