#include "src/config/preset.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "src/base/error.h"

namespace switchyard {
namespace {

using Moe = Config::Model::Moe;

struct Setting {
  std::string field, value;  // as in a file
};
using Settings = std::vector<Setting>;

void fill(const Settings& settings, Moe& moe) {
  for (const Setting& setting : settings) {
    const google::protobuf::FieldDescriptor* field = Moe::descriptor()->FindFieldByName(setting.field);
    check(field != nullptr, "a preset names a field that does not exist");
    if (moe.GetReflection()->HasField(moe, field)) continue;
    const bool parsed = google::protobuf::TextFormat::Parser().ParseFieldValueFromString(setting.value, field, &moe);
    check(parsed, "a preset has a value that its field does not take");
  }
}

Settings of_router(Moe::Router router) {
  switch (router) {
    case Moe::TOP_K:
    case Moe::NO_TOKEN_LEFT_BEHIND: return {};
    case Moe::EXPERT_CHOICE: return {{"balance_loss", "0"}, {"order", "LEFT_TO_RIGHT"}};
    case Moe::HASH:
      return {{"balance_loss", "0"}, {"order", "LEFT_TO_RIGHT"}, {"jitter", "0"}, {"exploration", "INPUT_JITTER"}, {"z_loss", "0"}, {"gate", "MASK_ONLY"}};
    case Moe::SOFT:
      return {{"balance_loss", "0"}, {"order", "LEFT_TO_RIGHT"}, {"jitter", "0"}, {"exploration", "INPUT_JITTER"}, {"z_loss", "0"}, {"gate", "PROBABILITY"}};
  }
  throw InternalError("a router kind that nothing handles");
}

// The largest equal groups of about `largest` tokens: as many groups as fit at that size, and more until they are equal
// (switch.md 1.3). 0 where the micro-batch is one group, or has a size that validate() refuses.
std::string equal_groups(const Config& config, int64_t largest) {
  constexpr int64_t kMost = int64_t{1} << 22;
  const int64_t sequences = config.train().sequences(), length = config.model().sequence_length();
  if (sequences < 1 || length < 1 || sequences > kMost / length) return "0";
  const int64_t tokens = sequences * length;
  int64_t groups = std::max<int64_t>(1, tokens / largest);
  while (tokens % groups != 0) ++groups;
  return fmt::format("{}", groups == 1 ? 0 : tokens / groups);
}

// Several choices of a token are weighed among themselves.
std::string renormalised_if_several(const Moe& moe) { return moe.router() == Moe::TOP_K && moe.top_k() > 1 ? "RENORMALISED" : "PROBABILITY"; }

// Mesh TensorFlow (switch.md 1.2-1.7).
Settings mesh(const Config& config) {
  return {{"capacity_rounding", "DOWN"},
          {"capacity_factor", "1.25"},
          {"eval_capacity_factor", "2"},
          {"min_capacity", "4"},
          {"group_tokens", equal_groups(config, 1024)},
          {"order", "LEFT_TO_RIGHT"},
          {"gate", renormalised_if_several(config.model().moe())},
          {"exploration", "INPUT_JITTER"},
          {"jitter", "0.01"},
          {"balance_loss", "0.01"},
          {"balance_over_layers", "SUM"},
          {"z_loss", "0"}};
}

// flaxformer and t5x with the file switch_base.gin (switch.md 1.3).
Settings flaxformer(const Config& config) {
  return {{"capacity_rounding", "NEAREST"},
          {"capacity_factor", "1.25"},
          {"eval_capacity_factor", "2"},
          {"min_capacity", "4"},
          {"group_tokens", equal_groups(config, 8192)},
          {"order", "LEFT_TO_RIGHT"},
          {"gate", "PROBABILITY"},
          {"jitter", "0"},
          {"balance_loss", "0.01"},
          {"balance_over_layers", "MEAN"},
          {"z_loss", "0"}};
}

// Hugging Face's transformers 4.x (switch.md 7): 64 slots for each expert in each sequence, in training and after it. Its
// balance loss pools the tokens of all layers; the mean over layers is the nearest to it.
Settings hf(const Config& config) {
  const std::string factor =
      fmt::format("{}", 64.0 * config.model().moe().experts() / static_cast<double>(std::max<int64_t>(1, config.model().sequence_length())));
  return {{"capacity_rounding", "NEAREST"},
          {"capacity_factor", factor},
          {"eval_capacity_factor", factor},
          {"min_capacity", "0"},
          {"group_tokens", fmt::format("{}", config.model().sequence_length())},
          {"order", "LEFT_TO_RIGHT"},
          {"gate", "PROBABILITY"},
          {"exploration", "INPUT_JITTER"},
          {"jitter", "0.01"},
          {"balance_loss", "0.001"},
          {"balance_over_layers", "MEAN"},
          {"z_loss", "0.001"}};
}

// Megatron-Core (systems.md 1a, 1h): nothing is dropped unless a factor is given; then experts keep the largest gates.
// The softmax is over the chosen experts' logits, so that the gate of top-1 is 1.
Settings megatron(const Config& config) {
  const Moe& moe = config.model().moe();
  const bool drops = moe.has_capacity_factor() && moe.capacity_factor() > 0;
  return {{"capacity_rounding", "UP"},
          {"capacity_factor", "0"},
          {"eval_capacity_factor", drops ? fmt::format("{}", moe.capacity_factor()) : "0"},
          {"capacity_times_top_k", "true"},
          {"min_capacity", "0"},
          {"order", drops ? "BATCH_PRIORITISED" : "LEFT_TO_RIGHT"},
          {"gate", moe.router() == Moe::TOP_K ? "RENORMALISED" : "PROBABILITY"},
          {"jitter", "0"},
          {"balance_loss", "0.01"},
          {"balance_over_layers", "SUM"},
          {"z_loss", "0"}};
}

Settings deepspeed(const Config& config) {
  return {{"capacity_rounding", "UP"},
          {"capacity_factor", "1"},
          {"eval_capacity_factor", "1"},
          {"capacity_times_top_k", "true"},
          {"min_capacity", "4"},
          {"order", "LEFT_TO_RIGHT"},
          {"gate", renormalised_if_several(config.model().moe())},
          {"jitter", "0"},
          {"balance_loss", "0.01"},
          {"balance_over_layers", "SUM"},
          {"z_loss", "0"}};
}

Settings tutel(const Config& config) {
  Settings settings = {{"capacity_rounding", "MEAN_UP"}, {"min_capacity", "0"}};
  const Settings rest = deepspeed(config);  // a setting that is there already stays
  settings.insert(settings.end(), rest.begin(), rest.end());
  return settings;
}

// keras.io's example: tokens / experts slots, of which the last is never used; the balance loss is not scaled down. That
// its gate is applied twice is left out.
Settings keras() {
  return {{"capacity_rounding", "DOWN"},  {"capacity_factor", "1"}, {"eval_capacity_factor", "1"},  {"min_capacity", "0"}, {"unusable_slots", "1"},
          {"order", "LEFT_TO_RIGHT"},     {"gate", "PROBABILITY"},  {"exploration", "LOGIT_NOISE"}, {"jitter", "0.1"},     {"balance_loss", "1"},
          {"balance_over_layers", "SUM"}, {"z_loss", "0"}};
}

Settings of_preset(const Config& config) {
  switch (config.model().moe().preset()) {
    case Moe::NONE: return {};
    case Moe::MESH: return mesh(config);
    case Moe::FLAXFORMER: return flaxformer(config);
    case Moe::HF: return hf(config);
    case Moe::MEGATRON: return megatron(config);
    case Moe::DEEPSPEED: return deepspeed(config);
    case Moe::TUTEL: return tutel(config);
    case Moe::KERAS: return keras();
  }
  throw InternalError("a preset that nothing handles");
}

}  // namespace

void settle_routing(Config& config) {
  Moe& moe = *config.mutable_model()->mutable_moe();
  fill(of_router(moe.router()), moe);
  fill(of_preset(config), moe);
}

}  // namespace switchyard
