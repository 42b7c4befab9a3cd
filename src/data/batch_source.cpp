#include "src/data/batch_source.h"

#include <fmt/format.h>

#include <limits>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/data/window_order.h"

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

void choose_items(int64_t step, int accumulation, int lane, const BatchOptions& options, int64_t items, std::vector<int64_t>& chosen) {
  check(step >= 0 && accumulation >= 0 && accumulation < options.accumulate && lane >= 0, "training batches: no such micro-batch");
  const int64_t micro_batch = checked_add(checked_multiply(checked_add(checked_multiply(step, options.accumulate), accumulation), options.lanes), lane);
  const int64_t first = checked_multiply(micro_batch, options.sequences);
  for (size_t b = 0; b < chosen.size(); ++b) {
    const int64_t number = checked_add(first, static_cast<int64_t>(b));
    chosen[b] = window_order(number % items, items, options.seed, static_cast<uint64_t>(number / items));
  }
}

MicroBatch numbered(MicroBatch batch, int accumulation, int lane, const BatchOptions& options) {
  batch.lane = lane;
  batch.accumulation = accumulation;
  batch.first_token = static_cast<uint64_t>((int64_t{accumulation} * options.lanes + lane) * options.sequences * options.sequence_length);
  return batch;
}

}  // namespace switchyard
