// The threads of one backend and their scratch memory. Work is a list of independent tasks whose cut does not depend on
// the number of threads; who takes which task is left to chance.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

#include "kernels/memory.h"
#include "src/base/checked.h"

namespace switchyard::cpu {

// While it lives, the calling thread's parallel regions have one thread. The matrix library looks at that number when
// it creates and when it executes.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// Makes room for `bytes`; what was there is lost. With a quarter to spare, because routing asks for a little more in many
// steps: memory is that of the first ones.
inline void grow(Buffer& buffer, int64_t bytes) {
  if (buffer.bytes() >= bytes) return;
  buffer = Buffer();  // frees first
  buffer = Buffer(bytes + bytes / 4);
}

class Team {
 public:
  explicit Team(int threads) : threads_(threads), scratch_(static_cast<size_t>(threads)) {}

  int threads() const { return threads_; }

  // Calls f(task, thread) for every task. The first exception is thrown again when all threads are done.
  template <class F>
  void run(int64_t tasks, F f) {
    if (tasks <= 0) return;
    if (threads_ == 1 || tasks == 1) {
      const OneThread one;
      for (int64_t task = 0; task < tasks; ++task) f(task, 0);
      return;
    }
    std::exception_ptr error;
#pragma omp parallel num_threads(static_cast <int>(std::min <int64_t>(threads_, tasks)))
    {
      const OneThread one;
#pragma omp for schedule(dynamic, 1)
      for (int64_t task = 0; task < tasks; ++task) {
        try {
          f(task, omp_get_thread_num());
        } catch (...) {
#pragma omp critical(switchyard_team_error)
          if (error == nullptr) error = std::current_exception();
        }
      }
    }
    if (error != nullptr) std::rethrow_exception(error);
  }

  // Calls f(first, count, thread) for pieces of `total` things, `piece` at a time.
  template <class F>
  void run_pieces(int64_t total, int64_t piece, F f) {
    run(divide_up(total, piece), [&](int64_t task, int thread) { f(task * piece, std::min(piece, total - task * piece), thread); });
  }

  // Makes room for `bytes` of scratch per thread: before the tasks that use it.
  void reserve(int64_t bytes) {
    for (Buffer& buffer : scratch_) grow(buffer, bytes);
  }
  char* scratch(int thread) const { return static_cast<char*>(scratch_[static_cast<size_t>(thread)].data()); }

 private:
  int threads_;
  std::vector<Buffer> scratch_;
};

// Bump pointer over a thread's scratch; pieces are aligned to 64 bytes. The same walk with a null base measures.
class Scratch {
 public:
  explicit Scratch(char* base = nullptr) : base_(base) {}
  template <class T = char>
  T* take(int64_t elements) {
    const int64_t place = bytes_;
    bytes_ += round_up(elements * static_cast<int64_t>(sizeof(T)), 64);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + place);
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

}  // namespace switchyard::cpu
