#include "src/layers/relative_bias.h"

#include <algorithm>
#include <cmath>

#include "src/layers/initializers.h"

namespace switchyard {
namespace {

constexpr int kMostBuckets = 256;  // of one direction; so that products of powers stay small

// A product of 32-bit numbers, of any size.
class BigProduct {
 public:
  BigProduct& times(int64_t factor, int64_t power) {
    for (; power > 0; --power) {
      uint64_t carry = 0;
      for (uint32_t& word : words_) {
        carry += uint64_t{word} * static_cast<uint64_t>(factor);
        word = static_cast<uint32_t>(carry);
        carry >>= 32;
      }
      if (carry > 0) words_.push_back(static_cast<uint32_t>(carry));
    }
    return *this;
  }
  bool operator<(const BigProduct& other) const {
    if (words_.size() != other.words_.size()) return words_.size() < other.words_.size();
    return std::lexicographical_compare(words_.rbegin(), words_.rend(), other.words_.rbegin(), other.words_.rend());
  }

 private:
  std::vector<uint32_t> words_ = {1};  // the lowest first; the highest is not 0
};

}  // namespace

std::vector<int64_t> relative_thresholds(int count, int64_t distance) {
  const int64_t exact = count / 2;  // m
  check(count >= 2 && count <= kMostBuckets && distance > exact && distance < (int64_t{1} << 31), "relative_thresholds: buckets or distance out of range");
  std::vector<int64_t> first;
  for (int64_t n = 0; n <= exact; ++n) first.push_back(n);
  // Bucket m + k begins at the smallest n with (n / m)^(count - m) >= (distance / m)^k.
  const int64_t rest = count - exact;
  for (int64_t k = 1; k < rest; ++k) {
    const BigProduct wanted = BigProduct().times(distance, k).times(exact, rest - k);
    int64_t below = first.back() - 1, enough = distance;
    while (enough - below > 1) {
      const int64_t middle = below + (enough - below) / 2;
      (BigProduct().times(middle, rest) < wanted ? below : enough) = middle;
    }
    first.push_back(enough);
  }
  return first;
}

RelativeBiasLayer RelativeBiasLayer::make(const std::string& name, int64_t heads, int buckets, int64_t distance, bool causal) {
  RelativeBiasLayer layer;
  layer.heads = heads;
  layer.causal = causal;
  layer.thresholds = relative_thresholds(causal ? buckets : buckets / 2, distance);
  layer.table.name = name + ".weight";
  layer.table.shape = {buckets, heads};
  layer.table.initializer = normal(std::sqrt(2.0 / static_cast<double>(buckets + heads)));
  layer.table.decay = false;
  layer.table.forms = {.plain_exact = true};
  return layer;
}

int32_t RelativeBiasLayer::bucket(int64_t relative) const {
  const int64_t n = causal ? std::max<int64_t>(0, -relative) : std::abs(relative);
  const auto next = std::upper_bound(thresholds.begin(), thresholds.end(), n);
  const int64_t after = !causal && relative > 0 ? static_cast<int64_t>(thresholds.size()) : 0;
  return static_cast<int32_t>(after + (next - thresholds.begin()) - 1);
}

Tensor RelativeBiasLayer::forward(Context& ctx, int64_t queries, int64_t keys, int64_t first_position, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "relative_bias");
  std::vector<int32_t> by_distance(static_cast<size_t>(std::max<int64_t>(0, queries + keys - 1)));
  int64_t relative = -(queries - 1) - first_position;
  for (int32_t& place : by_distance) place = bucket(relative++);
  saved.bucket = ctx.keep(Dtype::kI32, {static_cast<int64_t>(by_distance.size())});
  ctx.backend.copy_from_host(by_distance.data(), Out(saved.bucket));
  const Tensor bias = ctx.keep(ctx.precision.exact, {heads, queries, keys});
  ctx.backend.relative_bias(Out(bias), table.plain, saved.bucket);
  return bias;
}

void RelativeBiasLayer::backward(Context& ctx, const Tensor& dbias, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "relative_bias.backward");
  ctx.backend.relative_bias_backward(grads.target(table), dbias, saved.bucket);
  grads.done(table);
}

}  // namespace switchyard
