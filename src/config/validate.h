// Every rule that a configuration keeps, in one place.
#pragma once

#include <cstdint>

#include "src/config/config.pb.h"

namespace switchyard {

inline constexpr int64_t kMaxSteps = 4294967295;  // random numbers have 32 bits for the step

// Throws Error(kUsage) naming the first field that breaks a rule, its value and the rule. `ranks` is the number that
// will work on it, 1 where that is not known. What passes has sizes whose products fit in 64 bits.
void validate(const Config& config, int ranks);

// To be called once the tokenizer is known: throws Error(kUsage) if it has more ids than the model has rows.
void validate_vocabulary(const Config& config, int64_t tokenizer_ids);
// The same for the labels: throws Error(kUsage) if they are not as many as the model's classes.
void validate_classes(const Config& config, int64_t labels);

}  // namespace switchyard
