// Presets: the routing rules of other systems by name, and the fields that follow from the way of routing.
#pragma once

#include "src/config/config.pb.h"

namespace switchyard {

// Fills fields of model.moe that are not set: first those that model.moe.router leaves no choice about (hash routing has
// no jitter), then those that model.moe.preset stands for. Doing it twice changes nothing more.
void settle_routing(Config& config);

}  // namespace switchyard
