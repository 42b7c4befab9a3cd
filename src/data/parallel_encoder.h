// Encodes many texts at once, each thread a run of them. The tokens do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/data/tokenizer.h"

namespace switchyard {

class ParallelEncoder {
 public:
  // The tokenizer must outlive this object. Throws Error(kUsage) unless there are 1 to 1024 threads.
  ParallelEncoder(const Tokenizer& tokenizer, int threads);

  // Tokens of each text; valid until the next call. Throws what an Encoder throws.
  const std::vector<std::vector<int32_t>>& encode(const std::vector<std::string>& texts);

 private:
  std::vector<std::unique_ptr<Encoder>> encoders_;  // by thread
  std::vector<std::vector<int32_t>> encoded_;
};

// Throws Error(kUsage) unless `threads` is from 1 to 1024.
void demand_threads(int threads);

}  // namespace switchyard
