#include "src/cli/signals.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>

namespace switchyard {
namespace {

// A handler has no argument through which it could be handed anything.
std::atomic<bool>& stop_flag() {
  static std::atomic<bool> flag{false};
  static_assert(std::atomic<bool>::is_always_lock_free);
  return flag;
}

extern "C" void request_stop(int) { stop_flag().store(true); }

void handle(int signal, int flags) {
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART | flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

const std::atomic<bool>& stop_on_signals(bool under_mpirun) {
  stop_flag();  // made before the first signal
  handle(SIGUSR1, 0);
  if (!under_mpirun) {
    handle(SIGTERM, SA_RESETHAND);
    handle(SIGINT, SA_RESETHAND);
  }
  return stop_flag();
}

void die_with_parent() {
  const pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) raise(SIGKILL);  // it died between the two calls
}

}  // namespace switchyard
