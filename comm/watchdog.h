// Watchdog: no rank waits silently for ever.
//
// Each rank's watchdog is a thread that knows in which collective of which layer the rank is, since when. Where a rank has
// waited for `deadline` in one, its watchdog asks those of all other ranks where they are (comm/watchdog_line.h). The
// lowest rank that can be heard says it in one sentence (comm/watchdog_report.h), and all ranks leave with
// ExitCode::kHang: a rank that is stopped does so when it goes on, unless the launcher has ended it before.
//
// Time in which this process itself was stopped does not count. A rank that computes, reads or writes is not watched; those
// that wait for it are. So the deadline must be longer than one rank ever works alone, as on a checkpoint's files.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace switchyard {

inline constexpr std::chrono::milliseconds kHangDeadline = std::chrono::seconds(600);

struct WatchdogOptions {
  std::chrono::milliseconds deadline = kHangDeadline;                   // 0: off
  std::chrono::milliseconds patience = std::chrono::milliseconds(500);  // for the peers' answers
  std::function<void(const std::string& sentence)> say;                 // on at most one rank that can be heard
  std::function<void()> leave;                                          // ends this process; empty: _Exit(ExitCode::kHang)
};

class Watchdog {
 public:
  // Collective over `comm`, which is used here only; its ranks are those of sentences. A world of one has no thread.
  // `say` and `leave` are called on the watchdog's thread, each once at most.
  Watchdog(Communicator& comm, WatchdogOptions options);
  // The peers' watchdogs get no answer from now on.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From the next moment on. 0: off, but it answers others.
  void set_deadline(std::chrono::milliseconds deadline);

  // A communicator whose every collective is noted here, as are those of its parts. This watchdog must outlive it.
  std::unique_ptr<Communicator> watch(std::unique_ptr<Communicator> inner);

  // Inside a collective for as long as it lives; `operation` is a literal. They do not nest.
  class Stay {
   public:
    Stay(Watchdog& watchdog, const char* operation, Call call) : watchdog_(watchdog) { watchdog_.enter(operation, call); }
    ~Stay() { watchdog_.leave(); }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    Watchdog& watchdog_;
  };

 private:
  class Guard;
  void enter(const char* operation, Call call);
  void leave();

  std::unique_ptr<Guard> guard_;  // none in a world of one
};

}  // namespace switchyard
