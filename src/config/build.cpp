#include "src/config/build.h"

#include <filesystem>

#include "src/base/error.h"
#include "src/config/fields.h"
#include "src/config/preset.h"
#include "src/config/validate.h"
#include "src/moe/capacity.h"

namespace switchyard {
namespace {

CapacityRounding rounding(Config::Model::Moe::CapacityRounding value) {
  switch (value) {
    case Config::Model::Moe::DOWN: return CapacityRounding::kDown;
    case Config::Model::Moe::NEAREST: return CapacityRounding::kNearest;
    case Config::Model::Moe::UP: return CapacityRounding::kUp;
    case Config::Model::Moe::MEAN_UP: return CapacityRounding::kMeanUp;
  }
  throw InternalError("a capacity rounding that nothing handles");
}

ScheduleKind schedule_kind(Config::Optimizer::Schedule value) {
  switch (value) {
    case Config::Optimizer::CONSTANT: return ScheduleKind::kConstant;
    case Config::Optimizer::INVERSE_SQUARE_ROOT: return ScheduleKind::kInverseSquareRoot;
    case Config::Optimizer::LINEAR: return ScheduleKind::kLinear;
    case Config::Optimizer::COSINE: return ScheduleKind::kCosine;
  }
  throw InternalError("a schedule that nothing handles");
}

RouterKind router_kind(Config::Model::Moe::Router value) {
  switch (value) {
    case Config::Model::Moe::TOP_K: return RouterKind::kTopK;
    case Config::Model::Moe::NO_TOKEN_LEFT_BEHIND: return RouterKind::kNoTokenLeftBehind;
    case Config::Model::Moe::EXPERT_CHOICE: return RouterKind::kExpertChoice;
    case Config::Model::Moe::HASH: return RouterKind::kHash;
    case Config::Model::Moe::SOFT: return RouterKind::kSoft;
  }
  throw InternalError("a router kind that nothing handles");
}

Exploration exploration(Config::Model::Moe::Exploration value) {
  switch (value) {
    case Config::Model::Moe::INPUT_JITTER: return Exploration::kInputJitter;
    case Config::Model::Moe::SAMPLE: return Exploration::kSample;
    case Config::Model::Moe::INPUT_DROPOUT: return Exploration::kInputDropout;
    case Config::Model::Moe::LOGIT_NOISE: return Exploration::kLogitNoise;
  }
  throw InternalError("an exploration that nothing handles");
}

TextSide side(Config::Data::Side value) { return value == Config::Data::FRONT ? TextSide::kFront : TextSide::kBack; }

GateKind gate(Config::Model::Moe::Gate value) {
  switch (value) {
    case Config::Model::Moe::PROBABILITY: return GateKind::kProbability;
    case Config::Model::Moe::RENORMALISED: return GateKind::kRenormalised;
    case Config::Model::Moe::MASK_ONLY: return GateKind::kMaskOnly;
  }
  throw InternalError("a gate that nothing handles");
}

PayloadFormat payload_format(Config::Model::Moe::Payload::Format value) {
  switch (value) {
    case Config::Model::Moe::Payload::NONE: return PayloadFormat::kPlain;
    case Config::Model::Moe::Payload::INT8: return PayloadFormat::kInt8;
    case Config::Model::Moe::Payload::FP8: return PayloadFormat::kFp8;
  }
  throw InternalError("a payload format that nothing handles");
}

PayloadOptions payload_options(const Config::Model::Moe::Payload& payload) {
  PayloadOptions options;
  options.format = {payload_format(payload.dispatch()), payload_format(payload.combine()), payload_format(payload.combine_backward()),
                    payload_format(payload.dispatch_backward())};
  options.error_bound = payload.error_bound();
  return options;
}

MoeOptions moe_options(const Config::Model::Moe& moe) {
  MoeOptions options;
  options.experts = moe.experts();
  options.every = moe.every();
  options.capacity_factor = moe.capacity_factor();
  options.eval_capacity_factor = moe.eval_capacity_factor();
  options.min_capacity = moe.min_capacity();
  options.capacity_rounding = rounding(moe.capacity_rounding());
  options.group_tokens = moe.group_tokens();
  options.jitter = moe.jitter();
  options.balance_loss = moe.balance_loss();
  options.z_loss = moe.z_loss();
  options.expert_dropout = moe.expert_dropout();
  options.router = router_kind(moe.router());
  options.top_k = moe.top_k();
  options.order = moe.order() == Config::Model::Moe::BATCH_PRIORITISED ? SlotOrder::kBatchPrioritised : SlotOrder::kLeftToRight;
  options.exploration = exploration(moe.exploration());
  options.gate = gate(moe.gate());
  options.second_policy = moe.second_policy() == Config::Model::Moe::RANDOM ? SecondPolicy::kRandom : SecondPolicy::kAlways;
  options.router_bf16 = moe.router_bf16();
  options.shared_experts = moe.shared_experts();
  options.feed_forward = moe.feed_forward();
  options.balance_scope = moe.balance_scope() == Config::Model::Moe::GLOBAL ? BalanceScope::kGlobal : BalanceScope::kPerGroup;
  options.balance_over_layers = moe.balance_over_layers() == Config::Model::Moe::MEAN ? OverLayers::kMean : OverLayers::kSum;
  options.bias_rate = moe.bias_rate();
  options.soft_slots = moe.soft_slots();
  options.capacity_multiple = moe.capacity_multiple();
  options.unusable_slots = moe.unusable_slots();
  options.capacity_times_top_k = moe.capacity_times_top_k();
  options.payload = payload_options(moe.payload());
  return options;
}

}  // namespace

ModelOptions model_options(const Config& config) {
  const Config::Model& model = config.model();
  ModelOptions options;
  options.vocabulary = model.vocabulary();
  options.width = model.width();
  options.heads = model.heads();
  options.head_width = model.head_width() > 0 ? model.head_width() : model.width() / model.heads();
  options.feed_forward = model.feed_forward();
  options.blocks = model.blocks();
  options.sequence_length = model.sequence_length();
  options.norm.kind = model.norm() == Config::Model::RMS_NORM ? NormKind::kRmsNorm : NormKind::kLayerNorm;
  options.norm.epsilon = model.norm_epsilon();
  options.bias = model.bias();
  options.dropout = model.dropout();
  options.hidden_dropout = model.hidden_dropout();
  options.initializer_scale = model.initializer_scale();
  options.embedding_deviation = model.embedding_deviation();
  options.attention_deviation = model.attention_deviation();
  options.scale_tied_head = model.scale_tied_head();
  options.scale_attention = model.scale_attention();
  options.z_loss = model.z_loss();
  options.moe = moe_options(model.moe());
  options.moe.vocabulary = model.vocabulary();
  options.moe.seed = config.seed();
  options.moe.overlap_chunks = config.parallel().overlap_chunks();
  const int64_t tokens = config.train().sequences() * model.sequence_length();
  if (config.parallel().fixed_blocks()) options.moe.fixed_block = fixed_block(options.moe, tokens);
  options.kind = model.kind() == Config::Model::CLASSIFIER ? ModelKind::kClassifier : ModelKind::kDecoder;
  options.norm_place = model.norm_place() == Config::Model::POST ? NormPlace::kPost : NormPlace::kPre;
  options.activation = model.activation() == Config::Model::GELU ? Activation::kGelu : Activation::kRelu;
  options.gated = model.gated();
  options.position = model.position() == Config::Model::RELATIVE_BIAS ? Position::kRelativeBias : Position::kLearned;
  options.relative_buckets = model.relative_buckets();
  options.relative_distance = model.relative_distance();
  options.classifier = {model.classifier().classes(), model.classifier().hidden(), model.classifier().dropout(), model.classifier().pool_padding(),
                        model.classifier().see_padding()};
  return options;
}

OptimizerOptions optimizer_options(const Config& config) {
  const Config::Optimizer& optimizer = config.optimizer();
  OptimizerOptions options;
  options.kind = optimizer.kind() == Config::Optimizer::SGD ? OptimizerKind::kSgd : OptimizerKind::kAdamW;
  options.beta1 = optimizer.beta1();
  options.beta2 = optimizer.beta2();
  options.epsilon = optimizer.epsilon();
  options.momentum = optimizer.momentum();
  options.decay = optimizer.decay();
  options.clip_norm = optimizer.clip_norm();
  return options;
}

ScheduleOptions schedule_options(const Config& config) {
  const Config::Optimizer& optimizer = config.optimizer();
  ScheduleOptions options;
  options.kind = schedule_kind(optimizer.schedule());
  options.rate = optimizer.learning_rate();
  options.warmup_steps = optimizer.warmup_steps();
  options.schedule_steps = optimizer.schedule_steps();
  options.final_fraction = optimizer.final_fraction();
  return options;
}

TrainOptions train_options(const Config& config) {
  TrainOptions options;
  options.seed = config.seed();
  options.steps = config.train().steps();
  options.lanes = config.train().lanes();
  options.accumulate = config.train().accumulate();
  options.expert_replicas = config.parallel().expert_replicas();
  options.sequences = config.train().sequences();
  options.sequence_length = config.model().sequence_length();
  options.epochs = config.train().epochs();
  options.patience = config.train().patience();
  return options;
}

BatchOptions batch_options(const Config& config) {
  BatchOptions options;
  options.lanes = config.train().lanes();
  options.accumulate = config.train().accumulate();
  options.sequences = config.train().sequences();
  options.sequence_length = config.model().sequence_length();
  options.group_tokens = config.model().moe().group_tokens();
  options.seed = config.seed();
  options.pad = side(config.data().pad());
  options.cut = side(config.data().cut());
  const Config::Model::Classifier& classifier = config.model().classifier();
  options.see_padding = classifier.see_padding();
  // Padding that nobody sees and that stands behind every text need not be there.
  options.whole_length = options.pad == TextSide::kFront || classifier.see_padding() || classifier.pool_padding() || options.group_tokens > 0;
  return options;
}

Precision precision(const Config& config) {
  check(config.precision() != Config::AUTO, "the precision is asked for before it was settled");
  return config.precision() == Config::BF16 ? kPrecisionBF16 : kPrecisionF32;
}

void fill_automatic(Config& config) {
  Config::Model& model = *config.mutable_model();
  if (model.head_width() == 0 && model.heads() > 0) model.set_head_width(model.width() / model.heads());
  Config::Train& train = *config.mutable_train();
  if (train.epochs() > 0 && !train.has_steps()) train.set_steps(kMaxSteps);
}

Config resolve_config(const Config& config, bool fast_bf16) {
  Config result = config;
  fill_automatic(result);
  settle_routing(result);
  if (result.precision() == Config::AUTO) result.set_precision(fast_bf16 ? Config::BF16 : Config::F32);
  fill_defaults(result);
  return result;
}

std::string config_name(const std::string& path) { return std::filesystem::path(path).stem().string(); }

}  // namespace switchyard
