#include "src/report/alarms.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {
namespace {

constexpr int64_t kDefaultWindow = 100;

// "expert 3", "experts 1, 4 and 6", "experts 0, 1, 2, 3, 4, 5 and 26 more"
std::string named(const std::vector<int>& experts) {
  constexpr size_t kMost = 8;
  if (experts.size() == 1) return fmt::format("expert {}", experts[0]);
  const size_t shown = experts.size() <= kMost ? experts.size() - 1 : kMost - 2;
  std::string text = "experts ";
  for (size_t i = 0; i < shown; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", experts[i]);
  return text + (experts.size() <= kMost ? fmt::format(" and {}", experts.back()) : fmt::format(" and {} more", experts.size() - shown));
}

std::string steps_text(int64_t steps) { return steps == 1 ? "step" : fmt::format("{} steps", steps); }

}  // namespace

void Alarms::Layer::add(const RouterCounts& counts) {
  unused.resize(counts.requested.size(), 0);
  requested.resize(counts.requested.size(), 0);
  // Without a choice at all (Soft MoE, or a step of padding) nothing is known about experts.
  const bool chosen = std::any_of(counts.requested.begin(), counts.requested.end(), [](int64_t count) { return count > 0; });
  for (size_t e = 0; e < counts.requested.size(); ++e) {
    requested[e] += counts.requested[e];
    unused[e] = counts.requested[e] > 0 ? 0 : unused[e] + (chosen ? 1 : 0);
  }
  tokens += counts.tokens;
  asked += counts.asked;
  dropped += counts.dropped;
  // A step with a number that is not finite is reported as a skipped update.
  if (std::isfinite(counts.entropy)) entropy += counts.entropy * static_cast<double>(counts.tokens);
}

void Alarms::Layer::begin_window() {
  std::fill(requested.begin(), requested.end(), 0);
  tokens = asked = dropped = 0;
  entropy = 0;
}

Alarms::Alarms(const AlarmOptions& options, std::span<const Alarm> given)
    : options_(options), window_(options.unused_steps > 0 ? options.unused_steps : kDefaultWindow) {
  for (const Alarm& alarm : given) given_.insert({alarm.kind, alarm.layer});
}

std::vector<Alarm> Alarms::observe(int64_t step, bool applied, std::span<const RouterCounts> layers) {
  std::vector<Alarm> fresh;
  if (!applied) {
    give(
        {"skipped_update",
         step,
         -1,
         {},
         1,
         fmt::format("step {}: the loss or the gradient norm was not finite, and the update was skipped; if that goes on, lower optimizer.learning_rate or set "
                     "optimizer.clip_norm",
                     step)},
        fresh);
  }
  layers_.resize(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    layers_[i].add(layers[i]);
    judge_unused(step, static_cast<int>(i), layers_[i], fresh);
  }
  if (++steps_ < window_) return fresh;
  for (size_t i = 0; i < layers_.size(); ++i) {
    judge_window(step, static_cast<int>(i), layers_[i], fresh);
    layers_[i].begin_window();
  }
  steps_ = 0;
  return fresh;
}

void Alarms::give(Alarm alarm, std::vector<Alarm>& fresh) {
  if (given_.insert({alarm.kind, alarm.layer}).second) fresh.push_back(std::move(alarm));
}

void Alarms::judge_unused(int64_t step, int number, const Layer& layer, std::vector<Alarm>& fresh) {
  if (options_.unused_steps == 0) return;
  std::vector<int> experts;
  for (size_t e = 0; e < layer.unused.size(); ++e) {
    if (layer.unused[e] >= options_.unused_steps) experts.push_back(static_cast<int>(e));
  }
  if (experts.empty()) return;
  give({"unused_expert", step, number, experts, static_cast<double>(experts.size()),
        fmt::format("step {}, MoE layer {}: no token chose {} of {} in the last {}; raise model.moe.balance_loss, or lower optimizer.learning_rate", step,
                    number, named(experts), layer.unused.size(), steps_text(options_.unused_steps))},
       fresh);
}

void Alarms::judge_window(int64_t step, int number, const Layer& layer, std::vector<Alarm>& fresh) {
  if (layer.requested.empty()) return;
  const double experts = static_cast<double>(layer.requested.size());
  const std::string where = fmt::format("step {}, MoE layer {}:", step, number), when = fmt::format("in the last {}", steps_text(window_));
  const auto busiest = std::max_element(layer.requested.begin(), layer.requested.end());
  const int expert = static_cast<int>(busiest - layer.requested.begin());
  const double choices = static_cast<double>(std::accumulate(layer.requested.begin(), layer.requested.end(), int64_t{0}));
  const double load = static_cast<double>(*busiest) * experts / choices;  // NaN where there are none, which is above nothing
  if (options_.load > 0 && load > options_.load) {
    give({"load",
          step,
          number,
          {expert},
          load,
          fmt::format("{} expert {} was chosen {:.1f} times as often as the mean of {} experts {}; raise model.moe.balance_loss", where, expert, load,
                      layer.requested.size(), when)},
         fresh);
  }
  const double dropped = static_cast<double>(layer.dropped) / static_cast<double>(layer.asked);
  if (options_.dropped > 0 && dropped > options_.dropped) {
    give({"dropped",
          step,
          number,
          {},
          dropped,
          fmt::format("{} {:.0f} % of the tokens found no place at their expert {}; raise model.moe.balance_loss or model.moe.capacity_factor", where,
                      100 * dropped, when)},
         fresh);
  }
  const double entropy = layer.entropy / static_cast<double>(layer.tokens) / std::log(experts);
  if (options_.entropy > 0 && experts > 1 && entropy < options_.entropy) {
    give({"entropy",
          step,
          number,
          {},
          entropy,
          fmt::format("{} the router's entropy was {:.4f} of ln {} {}, so its choices hardly change any more; set model.moe.z_loss (1e-3), or lower "
                      "optimizer.learning_rate",
                      where, entropy, layer.requested.size(), when)},
         fresh);
  }
}

}  // namespace switchyard
