#include "src/config/validate.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "src/base/error.h"
#include "src/config/fields.h"
#include "src/config/preset.h"
#include "src/config/rules.h"

namespace switchyard {
namespace {

enum class Bounds { kClosed, kOpenAbove, kOpenBelow };  // whether the ends themselves are allowed

struct Range {
  const char* field;
  double low, high;
  Bounds bounds = Bounds::kClosed;
};

constexpr double kSteps = kMaxSteps;

// Every number of the schema has a row (a test counts them), but for the seed, which may be anything. The upper ends
// keep products within 64 bits and indices within the random numbers' counters (expert_index in kernels/rng.h).
constexpr Range kRanges[] = {
    {"threads", 0, 4096},
    {"model.vocabulary", 2, 1 << 24},
    {"model.width", 1, 1 << 16},
    {"model.heads", 1, 1024},
    {"model.head_width", 0, 4096},
    {"model.feed_forward", 1, 1 << 20},
    {"model.blocks", 1, 1000},
    {"model.sequence_length", 1, 1 << 20},
    {"model.norm_epsilon", 0, 1, Bounds::kOpenBelow},
    {"model.dropout", 0, 1, Bounds::kOpenAbove},
    {"model.hidden_dropout", 0, 1, Bounds::kOpenAbove},
    {"model.initializer_scale", 0, 1000},
    {"model.embedding_deviation", 0, 1000},
    {"model.attention_deviation", 0, 1000},
    {"model.z_loss", 0, 1000},
    {"model.moe.experts", 1, 1 << 14},
    {"model.moe.every", 1, 1000},
    {"model.moe.capacity_factor", 0, 1e6},
    {"model.moe.eval_capacity_factor", 0, 1e6},
    {"model.moe.min_capacity", 0, 1 << 22},
    {"model.moe.group_tokens", 0, 1 << 22},
    {"model.moe.jitter", 0, 1, Bounds::kOpenAbove},
    {"model.moe.balance_loss", 0, 1000},
    {"model.moe.z_loss", 0, 1000},
    {"model.moe.expert_dropout", 0, 1, Bounds::kOpenAbove},
    {"model.moe.top_k", 1, 64},
    {"model.moe.shared_experts", 0, 64},
    {"model.moe.feed_forward", 0, 1 << 20},
    {"model.moe.bias_rate", 0, 1},
    {"model.moe.soft_slots", 1, 1 << 16},
    {"model.moe.capacity_multiple", 1, 1 << 22},
    {"model.moe.unusable_slots", 0, 1 << 22},
    {"model.moe.payload.error_bound", 0, 1},
    {"model.relative_buckets", 4, 256},
    {"model.relative_distance", 1, 1 << 20},
    {"model.classifier.classes", 0, 1 << 16},
    {"model.classifier.hidden", 0, 1 << 16},
    {"model.classifier.dropout", 0, 1, Bounds::kOpenAbove},
    {"train.epochs", 0, 1e6},
    {"train.patience", 0, 1e6},
    {"log.alarm_unused_steps", 0, kSteps},
    {"log.alarm_load", 0, 1e6},
    {"log.alarm_dropped", 0, 1},
    {"log.alarm_entropy", 0, 1},
    {"train.steps", 0, kSteps},
    {"train.lanes", 1, 1 << 16},
    {"train.accumulate", 1, 1 << 12},
    {"train.sequences", 1, 1 << 22},
    {"optimizer.learning_rate", 0, 1000},
    {"optimizer.beta1", 0, 1, Bounds::kOpenAbove},
    {"optimizer.beta2", 0, 1, Bounds::kOpenAbove},
    {"optimizer.epsilon", 0, 1, Bounds::kOpenBelow},
    {"optimizer.momentum", 0, 1, Bounds::kOpenAbove},
    {"optimizer.decay", 0, 1000},
    {"optimizer.clip_norm", 0, 1e9},
    {"optimizer.warmup_steps", 0, kSteps},
    {"optimizer.schedule_steps", 0, kSteps},
    {"optimizer.final_fraction", 0, 1},
    {"eval.every", 0, kSteps},
    {"eval.batches", 0, kSteps},
    {"parallel.expert_replicas", 1, 1 << 16},
    {"parallel.slices", 1, 1},
    {"parallel.overlap_chunks", 1, 32},
    {"parallel.hang_deadline", 0, 1e6},
    {"checkpoint.every", 0, kSteps},
    {"checkpoint.keep", 0, 1e6},
    {"log.every", 1, kSteps},
};

constexpr int64_t kMaxMicroBatchTokens = int64_t{1} << 22;
constexpr int64_t kMaxBiasElements = int64_t{1} << 30;
constexpr int64_t kMaxParameters = int64_t{1} << 40;

// "field is value but rule".
[[noreturn]] void broken(const Field& field, const std::string& rule) {
  throw Error(ExitCode::kUsage, fmt::format("{} is {} but {}", field.path, field.shown(), rule));
}

void check_range(const Config& config, const Range& range) {
  const Field found = field(config, range.field);
  const double value = found.number();
  const bool above = range.bounds == Bounds::kOpenBelow ? value > range.low : value >= range.low;
  const bool below = range.bounds == Bounds::kOpenAbove ? value < range.high : value <= range.high;
  if (std::isfinite(value) && above && below) return;
  if (range.low == range.high) broken(found, fmt::format("only {:.0f} exists so far", range.low));
  if (found.is_integer()) broken(found, fmt::format("must be between {:.0f} and {:.0f}", range.low, range.high));
  broken(found, fmt::format("must be {} {:g} and {} {:g}", range.bounds == Bounds::kOpenBelow ? "greater than" : "at least", range.low,
                            range.bounds == Bounds::kOpenAbove ? "below" : "at most", range.high));
}

}  // namespace

void require(bool holds, const Config& config, const char* path, const std::string& rule) {
  if (!holds) broken(field(config, path), rule);
}

namespace {

void check_model(const Config& config) {
  const Config::Model& model = config.model();
  const Config::Model::Moe& moe = model.moe();
  require(model.head_width() > 0 || model.width() % model.heads() == 0, config, "model.heads",
          fmt::format("must divide model.width, {}, unless model.head_width is given", model.width()));
  const int64_t head_width = model.head_width() > 0 ? model.head_width() : model.width() / model.heads();
  require(
      model.heads() * head_width <= 1 << 16, config, "model.heads",
      fmt::format("with model.head_width {} the heads have {} elements in all, and at most {} are allowed", head_width, model.heads() * head_width, 1 << 16));
  require(moe.experts() == 1 || moe.every() <= model.blocks(), config, "model.moe.every",
          fmt::format("model.blocks is {}: no block would have experts; lower it, or set model.moe.experts to 1", model.blocks()));
  const int64_t moe_blocks = moe.experts() == 1 ? 0 : model.blocks() / moe.every();
  const int64_t matrices = (model.gated() ? 3 : 2) * model.width() * model.feed_forward();  // of one feed-forward layer or expert
  const double of_expert = static_cast<double>(moe.feed_forward() > 0 ? moe.feed_forward() : model.feed_forward()) / static_cast<double>(model.feed_forward());
  const double total = static_cast<double>(model.vocabulary() + model.sequence_length()) * static_cast<double>(model.width()) +
                       static_cast<double>(matrices) * (static_cast<double>(model.blocks() - moe_blocks) +
                                                        static_cast<double>(moe_blocks * (moe.experts() + moe.shared_experts())) * of_expert);
  require(total <= static_cast<double>(kMaxParameters), config, "model.width",
          fmt::format("with the other sizes that makes about {:.1e} parameters, and at most {:.1e} are allowed", total, static_cast<double>(kMaxParameters)));
}

void check_relative_bias(const Config& config) {
  const Config::Model& model = config.model();
  require(model.relative_distance() > model.relative_buckets() / 2, config, "model.relative_distance",
          fmt::format("must be above half of model.relative_buckets, {}: the first half of the buckets holds one distance each", model.relative_buckets()));
  const double bias = static_cast<double>(model.heads()) * static_cast<double>(model.sequence_length()) * static_cast<double>(model.sequence_length());
  require(model.position() != Config::Model::RELATIVE_BIAS || bias <= static_cast<double>(kMaxBiasElements), config, "model.sequence_length",
          fmt::format("with model.heads {} the relative bias has {:.1e} numbers, heads * length * length, and at most {:.1e} are allowed", model.heads(), bias,
                      static_cast<double>(kMaxBiasElements)));
}

void check_step(const Config& config, int ranks) {
  const Config::Train& train = config.train();
  const int64_t tokens = train.sequences() * config.model().sequence_length();
  require(tokens <= kMaxMicroBatchTokens, config, "train.sequences",
          fmt::format("with model.sequence_length {} a micro-batch has {} tokens, and at most {} are allowed", config.model().sequence_length(), tokens,
                      kMaxMicroBatchTokens));
  require(config.model().moe().group_tokens() <= tokens, config, "model.moe.group_tokens",
          fmt::format("a micro-batch has {} tokens (train.sequences * model.sequence_length); 0 makes it one group", tokens));
  require(ranks <= train.lanes(), config, "train.lanes",
          fmt::format("there are {} ranks, and each needs a lane: raise train.lanes to at least {}, or start fewer ranks", ranks, ranks));
  require(config.parallel().expert_replicas() <= train.lanes(), config, "parallel.expert_replicas",
          fmt::format("must be at most train.lanes, {}, for each replica of an expert needs a lane that feeds it", train.lanes()));
}

void check_optimizer(const Config& config) {
  const Config::Optimizer& optimizer = config.optimizer();
  const bool ends = optimizer.schedule() == Config::Optimizer::LINEAR || optimizer.schedule() == Config::Optimizer::COSINE;
  require(!ends || optimizer.schedule_steps() > 0, config, "optimizer.schedule_steps",
          fmt::format("optimizer.schedule {} needs its length in steps, warm-up included", Config::Optimizer::Schedule_Name(optimizer.schedule())));
  require(!ends || optimizer.warmup_steps() < optimizer.schedule_steps(), config, "optimizer.warmup_steps",
          fmt::format("must be below optimizer.schedule_steps, {}, which includes it", optimizer.schedule_steps()));
  require(optimizer.schedule() != Config::Optimizer::INVERSE_SQUARE_ROOT || optimizer.warmup_steps() > 0, config, "optimizer.warmup_steps",
          "optimizer.schedule INVERSE_SQUARE_ROOT needs at least 1, the length of its plateau (10000 in the paper)");
  require(optimizer.kind() == Config::Optimizer::SGD || optimizer.momentum() == 0, config, "optimizer.momentum",
          fmt::format("optimizer.kind {} has no such thing; it belongs to SGD", Config::Optimizer::Kind_Name(optimizer.kind())));
}

void check_slots(const Config& config) {
  const Config::Model::Moe& moe = config.model().moe();
  const int64_t slots = int64_t{moe.experts()} * moe.soft_slots();
  require(moe.router() != Config::Model::Moe::SOFT || slots <= kMaxMicroBatchTokens / config.train().sequences(), config, "model.moe.soft_slots",
          fmt::format("with model.moe.experts {} and train.sequences {} a micro-batch has more than {} slots, which is the most", moe.experts(),
                      config.train().sequences(), kMaxMicroBatchTokens));
}

void check_texts(const Config& config) {
  visit_fields(config, [](const Field& field) {
    if (!field.is_text()) return;
    const std::string text = field.text();
    if (text.size() > 4096) throw Error(ExitCode::kUsage, fmt::format("{} has {} bytes but at most 4096 are allowed", field.path, text.size()));
    for (const char c : text) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) throw Error(ExitCode::kUsage, field.path + " holds a control character, which no name has");
    }
  });
}

}  // namespace

void validate(const Config& given, int ranks) {
  for (const Range& range : kRanges) check_range(given, range);
  Config config = given;
  settle_routing(config);
  check_texts(config);
  check_model(config);
  check_slots(config);
  check_relative_bias(config);
  check_step(config, ranks);
  check_routing(config);
  check_kind(config);
  check_optimizer(config);
  require(config.device() != Config::Device::REFERENCE || config.precision() != Config::BF16, config, "precision", "device REFERENCE computes in F32 only");
  require(!config.data().corpus().empty(), config, "data.corpus", "must name the folder that `switchyard tokenize` wrote, or be \"builtin\"");
}

void validate_vocabulary(const Config& config, int64_t tokenizer_ids) {
  require(tokenizer_ids <= config.model().vocabulary(), config, "model.vocabulary",
          fmt::format("the tokenizer of data.corpus has {} ids: raise it to at least that", tokenizer_ids));
}

}  // namespace switchyard
