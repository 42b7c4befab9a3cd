// What is in a micro-batch, as numbers that tests compare.
#pragma once

#include <cstdint>
#include <vector>

#include "src/data/batch_source.h"

namespace switchyard {

struct Rows {
  std::vector<int32_t> tokens, targets, mask;
  bool operator==(const Rows&) const = default;
};

inline std::vector<int32_t> values(const Tensor& tensor) { return {tensor.get<int32_t>(), tensor.get<int32_t>() + tensor.elements()}; }

inline Rows rows_of(const MicroBatch& batch) {
  if (batch.sequences == 0) return {};
  Rows rows{values(batch.tokens), values(batch.targets), {}};
  rows.mask = batch.mask.exists() ? values(batch.mask) : std::vector<int32_t>(rows.tokens.size(), 1);
  return rows;
}

inline BatchOptions options_for(int lanes, int accumulate, int64_t sequences, int64_t length) {
  BatchOptions options;
  options.lanes = lanes;
  options.accumulate = accumulate;
  options.sequences = sequences;
  options.sequence_length = length;
  return options;
}

}  // namespace switchyard
