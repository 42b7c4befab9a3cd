#include "comm/watchdog_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace switchyard {
namespace {

constexpr size_t kMostRuns = 16;  // of rank numbers in one list

// Ranks at one place, and how long the first of them has been there.
struct Group {
  std::vector<int> ranks;
  double seconds = 0;
  std::optional<RankState> state;  // none: they do not answer
};

// "rank 3", "ranks 0, 2-5".
std::string names(const std::vector<int>& ranks) {
  std::string text;
  size_t runs = 0;
  for (size_t begin = 0; begin < ranks.size() && runs < kMostRuns; ++runs) {
    size_t end = begin + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    text += begin > 0 ? ", " : "";
    text += end - begin == 1 ? std::to_string(ranks[begin]) : fmt::format("{}-{}", ranks[begin], ranks[end - 1]);
    begin = end;
    if (runs + 1 == kMostRuns && begin < ranks.size()) text += fmt::format(" and {} more", ranks.size() - begin);
  }
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

std::string time_of_day(std::time_t when) {
  std::tm parts{};
  gmtime_r(&when, &parts);
  return fmt::format("{:02}:{:02}:{:02} UTC", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string collective(const RankState& state) {
  std::string text = fmt::format("{} '{}'", state.operation, state.name);
  if (state.layer >= 0) text += fmt::format(" of layer {}", state.layer);
  return text + fmt::format(" (collective {})", state.number);
}

std::string describe(const Group& group, std::time_t now) {
  const bool one = group.ranks.size() == 1;
  const std::string who = names(group.ranks);
  if (!group.state) return fmt::format("{} {} not answer: stopped, ended, or not to be reached", who, one ? "does" : "do");
  const std::string since = fmt::format("since {} ({:.1f} s)", time_of_day(now - static_cast<std::time_t>(group.seconds)), group.seconds);
  if (group.state->waiting != 0) return fmt::format("{} {} in {} {}", who, one ? "waits" : "wait", collective(*group.state), since);
  const std::string last = group.state->number > 0 ? "the last was " + collective(*group.state) : "there was none before";
  return fmt::format("{} {} in no collective {}, {}", who, one ? "is" : "are", since, last);
}

// The silent first, then those outside, then by collective.
auto place(const RankState& state) {
  return std::make_tuple(state.waiting, state.number, std::string_view(state.operation), std::string_view(state.name), state.layer);
}

bool same_place(const std::optional<RankState>& a, const std::optional<RankState>& b) { return a && b ? place(*a) == place(*b) : !a && !b; }

bool earlier_place(const Group& a, const Group& b) {
  if (!a.state || !b.state) return !a.state && b.state;
  return place(*a.state) < place(*b.state);
}

}  // namespace

std::string hang_report(std::span<const std::optional<RankState>> ranks, std::time_t now) {
  std::vector<Group> groups;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const std::optional<RankState>& state = ranks[rank];
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& known) { return same_place(known.state, state); });
    if (group == groups.end()) group = groups.insert(groups.end(), Group{.ranks = {}, .seconds = 0, .state = state});
    group->ranks.push_back(static_cast<int>(rank));
    if (state) group->seconds = std::max(group->seconds, state->seconds);
  }
  std::stable_sort(groups.begin(), groups.end(), earlier_place);
  std::string text = "the ranks hang: ";
  for (const Group& group : groups) text += (&group == groups.data() ? "" : "; ") + describe(group, now);
  return text;
}

}  // namespace switchyard
