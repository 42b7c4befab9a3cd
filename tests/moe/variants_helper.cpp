#include "tests/moe/variants.h"

namespace switchyard {
namespace {

Case usual() {
  Case c;
  c.lanes = 4;
  c.options.experts = 4;
  c.options.top_k = 1;
  c.options.group_tokens = 7;
  c.options.capacity_factor = 0.8;
  c.options.min_capacity = 1;
  c.options.jitter = 0;
  c.options.balance_loss = 0.3;
  c.options.z_loss = 0.05;
  c.mask = [](int lane, int64_t t) { return t % (lane + 4) == 2 ? 0 : 1; };
  return c;
}

}  // namespace

std::vector<Variant> variants() {
  std::vector<Variant> all;
  const auto add = [&](const std::string& name) -> MoeOptions& { return all.emplace_back(Variant{name, usual()}).c.options; };
  const auto top2 = [&](const std::string& name) -> MoeOptions& {
    MoeOptions& options = add(name);
    options.top_k = 2;
    options.capacity_factor = 1.3;
    return options;
  };
  add("InputJitter").jitter = 0.2;
  add("Sample").exploration = Exploration::kSample;
  MoeOptions& dropout = add("InputDropout");
  dropout.exploration = Exploration::kInputDropout;
  dropout.jitter = 0.3;
  MoeOptions& noise = add("LogitNoise");
  noise.exploration = Exploration::kLogitNoise;
  noise.jitter = 0.3;
  add("MaskOnly").gate = GateKind::kMaskOnly;
  add("BatchPrioritised").order = SlotOrder::kBatchPrioritised;
  add("RouterBf16").router_bf16 = true;
  all.back().differentiable = false;
  add("OneGroup").group_tokens = 0;
  add("Dropless").capacity_factor = 0;
  top2("Top2");
  top2("Top2Renormalised").gate = GateKind::kRenormalised;
  top2("Top2MaskOnly").gate = GateKind::kMaskOnly;
  top2("Top2BatchPrioritised").order = SlotOrder::kBatchPrioritised;
  MoeOptions& sampled = top2("Top2Sample");
  sampled.exploration = Exploration::kSample;
  MoeOptions& random = top2("Top2RandomSecond");
  random.second_policy = SecondPolicy::kRandom;
  random.gate = GateKind::kRenormalised;
  MoeOptions& dropless = top2("Top2Dropless");
  dropless.capacity_factor = 0;
  dropless.capacity_times_top_k = true;
  top2("Top3").top_k = 3;
  MoeOptions& behind = add("NoTokenLeftBehind");
  behind.router = RouterKind::kNoTokenLeftBehind;
  behind.top_k = 3;
  MoeOptions& choice = add("ExpertChoice");
  choice.router = RouterKind::kExpertChoice;
  choice.capacity_factor = 1.3;
  MoeOptions& renormalised = add("ExpertChoiceRenormalised");
  renormalised.router = RouterKind::kExpertChoice;
  renormalised.gate = GateKind::kRenormalised;
  MoeOptions& everything = add("ExpertChoiceDropless");
  everything.router = RouterKind::kExpertChoice;
  everything.capacity_factor = 0;
  for (const char* name : {"Hash", "HashDropless"}) {
    MoeOptions& hash = add(name);
    hash.router = RouterKind::kHash;
    hash.vocabulary = 17;
    hash.seed = 3;
    hash.capacity_factor = std::string(name) == "Hash" ? 0.8 : 0;
  }
  return all;
}

}  // namespace switchyard
