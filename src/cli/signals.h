// Signals: how a run is asked to stop, and what becomes of a rank whose parent is gone.
#pragma once

#include <atomic>

namespace switchyard {

// From now on USR1 sets the flag that is returned: finish the step, save, leave with 75. So do TERM and INT where this
// process has no mpirun above it; the second one ends the process at once. Under mpirun those keep their meaning.
const std::atomic<bool>& stop_on_signals(bool under_mpirun);

// The kernel ends this process when the process that started it ends. For ranks: mpirun's death must not leave any.
void die_with_parent();

}  // namespace switchyard
