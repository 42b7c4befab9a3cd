// The parts of validate(), which each check what belongs together.
#pragma once

#include <string>

#include "src/config/config.pb.h"

namespace switchyard {

// Throws Error(kUsage) "field is value but rule" where the rule does not hold.
void require(bool holds, const Config& config, const char* path, const std::string& rule);

// What a model's kind asks of its head, its data and its training.
void check_kind(const Config& config);

// Of model.moe: which ways of routing go together, and with which kind of model. Expects settle_routing() to be done.
void check_routing(const Config& config);

}  // namespace switchyard
