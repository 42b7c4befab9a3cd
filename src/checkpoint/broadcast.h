// A text from one rank to all.
#pragma once

#include <string>

#include "comm/communicator.h"

namespace switchyard {

// Every rank's `text` becomes the root's. Collective.
void broadcast_text(Communicator& communicator, Call call, std::string& text, int root);

}  // namespace switchyard
