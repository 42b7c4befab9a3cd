#include "src/data/batch_source.h"

#include <fmt/format.h>

#include <limits>

#include "src/base/checked.h"
#include "src/base/error.h"

namespace switchyard {

BatchOptions checked_options(const BatchOptions& options) {
  const auto demand = [](int64_t value, const char* field) {
    if (value < 1) throw Error(ExitCode::kUsage, fmt::format("{} is {} but must be at least 1", field, value));
  };
  demand(options.lanes, "train.lanes");
  demand(options.accumulate, "train.accumulate");
  demand(options.sequences, "train.sequences");
  demand(options.sequence_length, "model.sequence_length");
  if (options.group_tokens < 0) throw Error(ExitCode::kUsage, fmt::format("model.moe.group_tokens is {} but must not be negative", options.group_tokens));
  const int64_t rows = checked_multiply(options.sequences, options.sequence_length);
  if (rows > std::numeric_limits<int32_t>::max()) {
    throw Error(ExitCode::kUsage, fmt::format("a micro-batch of {} sequences of {} tokens has more than {} tokens; lower train.sequences", options.sequences,
                                              options.sequence_length, std::numeric_limits<int32_t>::max()));
  }
  return options;
}

}  // namespace switchyard
