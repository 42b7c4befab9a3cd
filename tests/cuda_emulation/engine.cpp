#include "tests/cuda_emulation/engine.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {

ThreadView* this_thread = nullptr;

Engine& engine() {
  static Engine* const the_engine = new Engine;  // kernels may run in destructors at the very end
  return *the_engine;
}

void ReadyRing::reset(size_t threads) {
  ring_.resize(threads);
  head_ = 0;
  size_ = 0;
}

void ReadyRing::push(unsigned thread) {
  const size_t at = head_ + size_;
  ring_[at >= ring_.size() ? at - ring_.size() : at] = thread;
  ++size_;
}

unsigned ReadyRing::pop() {
  const unsigned thread = ring_[head_];
  head_ = head_ + 1 == ring_.size() ? 0 : head_ + 1;
  --size_;
  return thread;
}

unsigned ReadyRing::pop(Random& random) {
  const size_t at = head_ + random.below(size_);
  std::swap(ring_[head_], ring_[at >= ring_.size() ? at - ring_.size() : at]);
  return pop();
}

unsigned ReadyRing::pop_of_warp(bool last) {
  const auto place = [this](size_t i) -> unsigned& { return ring_[head_ + i >= ring_.size() ? head_ + i - ring_.size() : head_ + i]; };
  size_t best = 0;
  for (size_t i = 1; i < size_; ++i) {
    const unsigned warp = place(i) / kWarpSize, of_best = place(best) / kWarpSize;
    if (last ? warp > of_best : warp < of_best) best = i;
  }
  const unsigned thread = place(best);
  for (size_t i = best; i > 0; --i) place(i) = place(i - 1);  // the others keep their order
  pop();
  return thread;
}

void wait_for_others() {
  sanitizers::release(&engine().abandoned);
  sanitizers::watch_again();
  engine().current->fiber->suspend(false);
  sanitizers::stop_watching();
}

void fault(const char* format, ...) {
  Engine& state = engine();
  state.faulted = true;
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(state.fault_text, sizeof state.fault_text, format, values);
  va_end(values);
  sanitizers::release(&state.abandoned);
  sanitizers::watch_again();
  state.current->fiber->suspend(true);
  __builtin_unreachable();
}

Text describe(CallSite where) {
  Text text;
  std::snprintf(text.characters, sizeof text.characters, "%s:%u", where.file, where.line);
  return text;
}

Text describe(const Thread& thread) {
  const uint3 t = thread.view.thread;
  const uint3 b = thread.view.block;
  Text text;
  std::snprintf(text.characters, sizeof text.characters, "thread (%u,%u,%u) of block (%u,%u,%u)", t.x, t.y, t.z, b.x, b.y, b.z);
  return text;
}

const char* last_fault() { return engine().fault_text; }

void set_last_fault(const char* sentence) { std::snprintf(engine().fault_text, sizeof engine().fault_text, "%s", sentence); }

void set_schedule(Schedule schedule) {
  engine().schedule = schedule;
  engine().random = Random(schedule.seed);
}

Statistics statistics() { return engine().statistics; }

}  // namespace switchyard::emulation
