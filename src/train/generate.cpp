#include "src/train/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {
namespace {

// Feeds tokens to the model and answers with the logits after the last one.
class Reader {
 public:
  Reader(Runtime& runtime, bool cached)
      : runtime_(runtime), cached_(cached), length_(runtime.model().options().sequence_length), mark_(runtime.saved()), ctx_(runtime.context({}, 0, 0, false)) {
    if (cached_) cache_ = runtime_.decoder().make_cache(ctx_, 1, length_);
  }

  std::vector<double> read(const std::vector<int32_t>& tokens) {
    context_.insert(context_.end(), tokens.begin(), tokens.end());
    size_t fresh = tokens.size();
    if (static_cast<int64_t>(context_.size()) > length_) {
      context_.erase(context_.begin(), context_.end() - std::max<int64_t>(1, length_ / 2));
      cache_.clear();
      fresh = context_.size();
    }
    return cached_ ? logits_of({context_.end() - static_cast<int64_t>(fresh), context_.end()}) : logits_of(context_);
  }

 private:
  std::vector<double> logits_of(std::vector<int32_t> tokens) {
    const Arena::Mark saved(runtime_.saved()), scratch(runtime_.scratch());
    const int64_t n = static_cast<int64_t>(tokens.size());
    const Tensor input = ctx_.keep(Dtype::kI32, {n});
    ctx_.backend.copy_from_host(tokens.data(), Out(input));
    const Tensor h = cached_ ? runtime_.decoder().forward_cached(ctx_, input, cache_) : forward(input, n);
    const Tensor logits = runtime_.decoder().logits(ctx_, h.slice_rows(n - 1, 1));
    const Tensor wide = ctx_.temporary(Dtype::kF64, logits.shape());
    ctx_.backend.convert(Out(wide), logits);
    std::vector<double> result(static_cast<size_t>(wide.elements()));
    ctx_.backend.copy_to_host(wide, result.data());
    return result;
  }

  Tensor forward(const Tensor& input, int64_t n) {
    MicroBatch batch;
    batch.tokens = input;
    batch.sequences = 1;
    batch.sequence_length = n;
    return runtime_.model().forward(ctx_, batch, {.targets = n, .tokens = n, .groups = 1}, runtime_.state());
  }

  Runtime& runtime_;
  bool cached_;
  int64_t length_;
  Arena::Mark mark_;  // the cache lives as long as the reader
  Context ctx_;
  Decoder::Cache cache_;
  std::vector<int32_t> context_;
};

}  // namespace

int32_t sample(const std::vector<double>& logits, const GenerateOptions& options, uint64_t index) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto larger = [&](int32_t a, int32_t b) {
    const double x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  if (options.temperature == 0) return *std::min_element(order.begin(), order.end(), larger);
  std::sort(order.begin(), order.end(), larger);
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  const double largest = logits[static_cast<size_t>(order[0])];
  std::vector<double> cumulative(order.size());
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) cumulative[i] = sum += std::exp((logits[static_cast<size_t>(order[i])] - largest) / options.temperature);
  if (options.top_p < 1) {
    const auto reaches = std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * sum);
    cumulative.resize(std::min(cumulative.size(), static_cast<size_t>(reaches - cumulative.begin()) + 1));
    sum = cumulative.back();
  }
  const double point = sum * static_cast<double>(Random(options.seed, Purpose::kSampling, 0, 0, index).word(0, 0)) * 0x1p-32;
  const auto place = std::upper_bound(cumulative.begin(), cumulative.end(), point);
  return order[std::min(cumulative.size() - 1, static_cast<size_t>(place - cumulative.begin()))];
}

void generate(Runtime& runtime, const std::vector<int32_t>& prompt, const GenerateOptions& options, const std::function<void(int32_t)>& on_token) {
  check(!prompt.empty() && runtime.parts().grid.size() == 1, "generate: an empty prompt, or several ranks");
  // Soft MoE mixes the tokens of the whole text, so what it made of the first ones does not last.
  Reader reader(runtime, options.cached && runtime.model().options().moe.router != RouterKind::kSoft);
  std::vector<int32_t> next = prompt;
  for (int64_t drawn = 0; drawn < options.tokens; ++drawn) {
    next = {sample(reader.read(next), options, static_cast<uint64_t>(drawn))};
    on_token(next[0]);
    if (next[0] == options.end) return;
  }
}

}  // namespace switchyard
