#include "src/data/parallel_encoder.h"

#include <fmt/format.h>

#include <future>

#include "src/base/error.h"

namespace switchyard {

void demand_threads(int threads) {
  if (threads < 1 || threads > 1024) throw Error(ExitCode::kUsage, fmt::format("threads is {} but must be from 1 to 1024", threads));
}

ParallelEncoder::ParallelEncoder(const Tokenizer& tokenizer, int threads) {
  demand_threads(threads);
  for (int thread = 0; thread < threads; ++thread) encoders_.push_back(tokenizer.encoder());
}

const std::vector<std::vector<int32_t>>& ParallelEncoder::encode(const std::vector<std::string>& texts) {
  encoded_.assign(texts.size(), {});
  size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  const size_t wanted = bytes / encoders_.size() + 1;  // of a run
  std::vector<std::future<void>> runs;
  size_t begin = 0;
  for (size_t thread = 0; thread < encoders_.size(); ++thread) {
    size_t end = begin;
    for (size_t taken = 0; end < texts.size() && taken < wanted; ++end) taken += texts[end].size();
    if (thread + 1 == encoders_.size()) end = texts.size();
    runs.push_back(std::async(std::launch::async, [this, &texts, thread, begin, end] {
      for (size_t i = begin; i < end; ++i) encoders_[thread]->append(texts[i], encoded_[i]);
    }));
    begin = end;
  }
  for (std::future<void>& run : runs) run.wait();
  for (std::future<void>& run : runs) run.get();
  return encoded_;
}

}  // namespace switchyard
