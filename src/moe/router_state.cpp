#include "src/moe/router_state.h"

#include <numeric>

#include "src/base/error.h"

namespace switchyard {

RouterState make_router_state(const std::string& name, const MoeOptions& options) {
  RouterState state;
  state.name = name;
  state.bias_rate = options.bias_rate;
  const size_t experts = static_cast<size_t>(options.experts);
  if (options.bias_rate > 0) state.bias.assign(experts, 0);
  if (options.balance_scope == BalanceScope::kGlobal) state.counts.assign(experts, 0);
  state.payload = options.payload;
  if (options.payload.any()) state.fallen_back.assign(kWays, 0);
  return state;
}

void RouterState::advance(const std::vector<int64_t>& requested) {
  if (!bias.empty()) {
    check(bias.size() == requested.size(), "RouterState::advance: counts of another number of experts");
    const int64_t total = std::accumulate(requested.begin(), requested.end(), int64_t{0});
    const float rate = static_cast<float>(bias_rate);
    for (size_t i = 0; i < bias.size(); ++i) {
      const int64_t scaled = requested[i] * static_cast<int64_t>(bias.size());  // compared in integers: the mean is rarely whole
      if (scaled < total) bias[i] += rate;
      if (scaled > total) bias[i] -= rate;
    }
  }
  if (!counts.empty()) {
    check(counts.size() == requested.size(), "RouterState::advance: counts of another number of experts");
    counts = requested;
  }
}

std::vector<Way> RouterState::fall_back(const std::vector<double>& relative) {
  std::vector<Way> now;
  if (fallen_back.empty() || payload.error_bound == 0) return now;
  check(relative.size() == kWays, "RouterState::fall_back: expected a number for each way");
  for (size_t i = 0; i < kWays; ++i) {
    if (fallen_back[i] != 0 || !(relative[i] > payload.error_bound)) continue;
    fallen_back[i] = 1;
    now.push_back(static_cast<Way>(i));
  }
  return now;
}

Payloads RouterState::payloads() const {
  Payloads payloads = payload.format;
  for (size_t i = 0; i < fallen_back.size(); ++i) {
    if (fallen_back[i] != 0) payloads[i] = PayloadFormat::kPlain;
  }
  return payloads;
}

std::vector<double> RouterState::fractions() const {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<double> f;
  for (const int64_t count : counts) f.push_back(total == 0 ? 1 / static_cast<double>(counts.size()) : static_cast<double>(count) / static_cast<double>(total));
  return f;
}

}  // namespace switchyard
