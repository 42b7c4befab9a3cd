#include <fmt/format.h>

#include <cstdint>

#include "src/config/build.h"
#include "src/config/rules.h"
#include "src/moe/policy.h"

namespace switchyard {
namespace {

using Moe = Config::Model::Moe;

std::string of(Moe::Router router) { return "model.moe.router " + Moe::Router_Name(router); }

void check_causality(const Config& config) {
  const Moe& moe = config.model().moe();
  if (config.model().kind() != Config::Model::DECODER || moe.allow_acausal()) return;
  constexpr const char* kRule =
      "lets a decoder use what it does not have when it generates: later tokens; set model.moe.allow_acausal to true to have it all the same";
  require(moe.router() != Moe::EXPERT_CHOICE && moe.router() != Moe::SOFT, config, "model.moe.router", kRule);
  require(moe.order() != Moe::BATCH_PRIORITISED, config, "model.moe.order", kRule);
}

void check_choices(const Config& config) {
  const Moe& moe = config.model().moe();
  require(moe.top_k() <= moe.experts(), config, "model.moe.top_k", fmt::format("there are {} experts (model.moe.experts)", moe.experts()));
  const bool tokens_choose = moe.router() == Moe::TOP_K || moe.router() == Moe::NO_TOKEN_LEFT_BEHIND;
  require(tokens_choose || moe.top_k() == 1, config, "model.moe.top_k", of(moe.router()) + " has no such thing; it belongs to TOP_K and NO_TOKEN_LEFT_BEHIND");
  require(moe.router() != Moe::NO_TOKEN_LEFT_BEHIND || moe.top_k() >= 2, config, "model.moe.top_k",
          of(moe.router()) + " needs at least 2: the choices that a token asks one after the other (4 in Mesh TensorFlow)");
  if (moe.second_policy() == Moe::RANDOM) {
    require(moe.router() == Moe::TOP_K && moe.top_k() == 2, config, "model.moe.second_policy", "needs model.moe.router TOP_K and model.moe.top_k 2");
    require(moe.gate() != Moe::MASK_ONLY, config, "model.moe.second_policy", "model.moe.gate MASK_ONLY leaves no gate to draw by");
  }
  const int64_t tokens = config.train().sequences() * config.model().sequence_length();
  const int64_t choices = moe.router() == Moe::EXPERT_CHOICE ? moe.experts() : moe.top_k();
  require(tokens * choices <= INT32_MAX, config, moe.router() == Moe::EXPERT_CHOICE ? "model.moe.experts" : "model.moe.top_k",
          fmt::format("with {} tokens in a micro-batch that makes {} choices, and at most {} are allowed", tokens, tokens * choices, INT32_MAX));
}

// Fields that a way of routing never reads must not seem to do something.
void check_unread(const Config& config) {
  const Moe& moe = config.model().moe();
  const bool learns = moe.router() != Moe::HASH && moe.router() != Moe::SOFT;  // probabilities by which something is chosen
  const auto belongs = [&](bool fine, const char* path, const char* why) { require(fine, config, path, of(moe.router()) + " " + why); };
  belongs(learns || moe.jitter() == 0, "model.moe.jitter", "has no choices to explore; set it to 0");
  belongs(learns || moe.exploration() == Moe::INPUT_JITTER, "model.moe.exploration", "has no choices to explore");
  belongs(learns || moe.z_loss() == 0, "model.moe.z_loss", "has no router logits; set it to 0");
  belongs(learns || !moe.router_bf16(), "model.moe.router_bf16", "has no router product");
  belongs(moe.router() != Moe::HASH || moe.gate() == Moe::MASK_ONLY, "model.moe.gate", "has no probabilities: its gate is MASK_ONLY");
  belongs(moe.router() != Moe::SOFT || moe.gate() == Moe::PROBABILITY, "model.moe.gate", "weighs by its own softmax");
  belongs(moe.router() != Moe::NO_TOKEN_LEFT_BEHIND || moe.gate() != Moe::RENORMALISED, "model.moe.gate",
          "sends a token to one expert: nothing to renormalise");

  const bool chosen_by_tokens = learns && moe.router() != Moe::EXPERT_CHOICE;
  belongs(chosen_by_tokens || moe.balance_loss() == 0, "model.moe.balance_loss", "is balanced as it is; set it to 0");
  belongs(chosen_by_tokens || moe.balance_scope() == Moe::PER_GROUP, "model.moe.balance_scope", "has no balance loss");
  belongs(chosen_by_tokens || moe.bias_rate() == 0, "model.moe.bias_rate", "has no choices of tokens to balance");
  belongs(chosen_by_tokens || moe.order() == Moe::LEFT_TO_RIGHT, "model.moe.order", "has no gates that tokens could be ordered by");
  belongs(chosen_by_tokens || moe.exploration() != Moe::SAMPLE, "model.moe.exploration", "draws no expert for a token");
  require(moe.exploration() != Moe::SAMPLE || moe.bias_rate() == 0, config, "model.moe.bias_rate",
          "model.moe.exploration SAMPLE draws by the probabilities alone; choose one of them");
}

void check_fixed_blocks(const Config& config) {
  if (!config.parallel().fixed_blocks()) return;
  const Moe& moe = config.model().moe();
  require(RoutingPolicy::is_plain(model_options(config).moe), config, "parallel.fixed_blocks",
          "is for the paper's routing (model.moe.router TOP_K, top_k 1, gate PROBABILITY): what is decided in other ways is known on the host anyway");
  require(moe.capacity_factor() > 0, config, "parallel.fixed_blocks", "needs a model.moe.capacity_factor above 0: without one a block would hold every token");
  const int64_t tokens = config.train().sequences() * config.model().sequence_length();
  require(tokens <= INT32_MAX / moe.experts(), config, "parallel.fixed_blocks",
          fmt::format("with {} tokens in a micro-batch and {} experts has more rows than 32 bits number", tokens, moe.experts()));
}

}  // namespace

void check_routing(const Config& config) {
  check_causality(config);
  check_choices(config);
  check_unread(config);
  check_fixed_blocks(config);
}

}  // namespace switchyard
