#include "src/profile/step_profile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

namespace switchyard {
namespace {

using Place = std::pair<int, std::string>;  // layer, name
constexpr double kNanosecond = 1e-9;

double seconds_of(int64_t nanoseconds) { return static_cast<double>(nanoseconds) * kNanosecond; }

Place exchange_place(const std::string& name, int layer) {
  std::string base = forward_name(name);
  if (base == "expert counts") base = "dispatch";
  if (base == "outbox") base = "moe";  // but for the call inside, which belongs to the transfer that follows
  return {layer, base};
}

bool of_moe_layer(const std::string& base) { return base == "moe" || base == "router" || base == "experts" || base == "payload"; }

Place span_place(const TimelineSpan& span) {
  switch (span.kind) {
    case SpanKind::kCompute: {
      std::string base = forward_name(span.name);
      const int layer = of_moe_layer(base) ? span.layer : -1;
      return {layer, std::move(base)};
    }
    case SpanKind::kAllToAll: return exchange_place(span.name, span.layer);
    case SpanKind::kGradientSum: return {-1, "gradient sum"};
    case SpanKind::kPublish: return {-1, "publish"};
    case SpanKind::kControl: return {-1, "control"};
    case SpanKind::kInput: return {-1, "input"};
    case SpanKind::kFile: return {-1, "file"};
  }
  return {-1, "rest"};
}

// `around`: the innermost span that holds the call; may be null.
Place call_place(const TimelineCall& call, const TimelineSpan* around) {
  if (call.kind == CallKind::kTransfer) return exchange_place(call.name, call.layer);
  if (call.kind == CallKind::kBucketTransfer) return {-1, around != nullptr && around->kind == SpanKind::kPublish ? "publish" : "gradient sum"};
  if (around != nullptr && (around->kind == SpanKind::kPublish || around->kind == SpanKind::kGradientSum)) return span_place(*around);
  return {-1, "control"};
}

// When the last rank came, for each kind of stay in call i.
struct Arrivals {
  int64_t outbox = 0, issue = 0;
};

std::vector<Arrivals> arrivals_of(std::span<const Timeline> timelines) {
  std::vector<Arrivals> arrivals(timelines[0].calls.size());
  std::array<std::array<int64_t, 2>, 2> pulled{};  // by use: of the last transfer but one, and of the last
  for (size_t i = 0; i < arrivals.size(); ++i) {
    int64_t pull = 0;
    for (const Timeline& timeline : timelines) {
      const TimelineCall& call = timeline.calls[i];
      arrivals[i].issue = std::max(arrivals[i].issue, call.issue.begin_ns);
      pull = std::max(pull, call.wait.end_ns > 0 ? call.wait.begin_ns : call.issue.begin_ns);
    }
    const CallKind kind = timelines[0].calls[i].kind;
    if (kind != CallKind::kTransfer && kind != CallKind::kBucketTransfer) continue;
    // Outboxes of a use are taken in turn: this one is free when all have begun to pull the transfer before the last.
    std::array<int64_t, 2>& last = pulled[kind == CallKind::kTransfer ? 0 : 1];
    arrivals[i].outbox = last[0];
    last = {last[1], pull};
  }
  return arrivals;
}

// A stretch of one rank's time: a span, or a stay in a collective.
struct Stretch {
  Stay stay;
  const TimelineSpan* span = nullptr;
  size_t call = 0;         // where there is no span
  int64_t arrival_ns = 0;  // of the last rank
  int64_t inner_ns = 0;    // taken by stretches within
};

class RankProfile {
 public:
  RankProfile(const Timeline& timeline, std::span<const Arrivals> arrivals, std::map<Place, StepPart>& parts) : timeline_(timeline), parts_(parts) {
    for (const TimelineSpan& span : timeline.spans) stretches_.push_back({span.stay, &span, 0, 0, 0});
    for (size_t i = 0; i < timeline.calls.size(); ++i) {
      const TimelineCall& call = timeline.calls[i];
      add_stay(call.outbox, i, arrivals[i].outbox);
      add_stay(call.issue, i, arrivals[i].issue);
      add_stay(call.wait, i, arrivals[i].issue);
    }
    // The outer of two stretches comes first: the longer one, or the span.
    std::stable_sort(stretches_.begin(), stretches_.end(), [](const Stretch& a, const Stretch& b) {
      if (a.stay.begin_ns != b.stay.begin_ns) return a.stay.begin_ns < b.stay.begin_ns;
      if (a.stay.end_ns != b.stay.end_ns) return a.stay.end_ns > b.stay.end_ns;
      return a.span != nullptr && b.span == nullptr;
    });
  }

  // Adds this rank's seconds to the parts. Answers with the place of every call.
  std::vector<Place> run();

 private:
  void add_stay(const Stay& stay, size_t call, int64_t arrival_ns) {
    if (stay.end_ns > stay.begin_ns) stretches_.push_back({stay, nullptr, call, arrival_ns, 0});
  }
  void leave(const Stretch& stretch);
  const TimelineSpan* innermost_span() const;
  void add_hidden();
  // Nanoseconds in collectives before `time`.
  int64_t communicating_until(int64_t time) const;

  const Timeline& timeline_;
  std::map<Place, StepPart>& parts_;
  std::vector<Stretch> stretches_, stack_;
  std::vector<Place> call_places_;
  std::vector<std::pair<Stay, int64_t>> stays_;  // in collectives, in order of time, and how long those before took
};

const TimelineSpan* RankProfile::innermost_span() const {
  for (size_t i = stack_.size(); i-- > 0;) {
    if (stack_[i].span != nullptr) return stack_[i].span;
  }
  return nullptr;
}

void RankProfile::leave(const Stretch& stretch) {
  const int64_t all = stretch.stay.end_ns - stretch.stay.begin_ns;
  if (stretch.span != nullptr) {
    parts_[span_place(*stretch.span)].compute += seconds_of(all - stretch.inner_ns);
    return;
  }
  const int64_t waiting = std::clamp<int64_t>(stretch.arrival_ns - stretch.stay.begin_ns, 0, all);
  StepPart& part = parts_[call_places_[stretch.call]];
  part.wait += seconds_of(waiting);
  part.move += seconds_of(all - waiting);
}

std::vector<Place> RankProfile::run() {
  int64_t outside = 0;
  for (const Stay& step : timeline_.steps) outside += step.end_ns - step.begin_ns;
  call_places_.assign(timeline_.calls.size(), {-1, "control"});
  const auto leave_until = [&](int64_t time) {
    while (!stack_.empty() && stack_.back().stay.end_ns <= time) {
      leave(stack_.back());
      stack_.pop_back();
    }
  };
  for (const Stretch& stretch : stretches_) {
    leave_until(stretch.stay.begin_ns);
    const int64_t length = stretch.stay.end_ns - stretch.stay.begin_ns;
    (stack_.empty() ? outside : stack_.back().inner_ns) += stack_.empty() ? -length : length;
    if (stretch.span == nullptr) {
      call_places_[stretch.call] = call_place(timeline_.calls[stretch.call], innermost_span());
      stays_.emplace_back(stretch.stay, stays_.empty() ? 0 : stays_.back().second + stays_.back().first.end_ns - stays_.back().first.begin_ns);
    }
    stack_.push_back(stretch);
  }
  leave_until(INT64_MAX);
  parts_[{-1, "rest"}].compute += seconds_of(outside);
  add_hidden();
  return call_places_;
}

int64_t RankProfile::communicating_until(int64_t time) const {
  const auto after = std::partition_point(stays_.begin(), stays_.end(), [&](const auto& stay) { return stay.first.begin_ns < time; });
  if (after == stays_.begin()) return 0;
  const auto& [stay, before] = *(after - 1);
  return before + std::min(time, stay.end_ns) - stay.begin_ns;
}

// Between a transfer's start and the wait for it, collectives left out; what several transfers of a part cover counts once.
void RankProfile::add_hidden() {
  std::map<Place, int64_t> covered;
  for (size_t i = 0; i < timeline_.calls.size(); ++i) {
    const TimelineCall& call = timeline_.calls[i];
    if (call.wait.end_ns == 0) continue;
    int64_t& until = covered[call_places_[i]];
    const int64_t from = std::max(call.issue.end_ns, until);
    if (call.wait.begin_ns <= from) continue;
    until = call.wait.begin_ns;
    parts_[call_places_[i]].hidden += seconds_of(until - from - (communicating_until(until) - communicating_until(from)));
  }
}

// Of a collective that is no exchange of rows: a tree of messages, one after another.
double tree_seconds(const LinkModel& model, std::span<const int> hosts, int64_t bytes) {
  const bool one_host = std::all_of(hosts.begin(), hosts.end(), [&](int host) { return host == hosts[0]; });
  return std::ceil(std::log2(static_cast<double>(hosts.size()))) * (one_host ? model.within_host : model.between_hosts).seconds(bytes);
}

double call_seconds(const LinkModel& model, std::span<const int> hosts, CallKind kind, const Traffic& bytes) {
  switch (kind) {
    case CallKind::kTransfer:
    case CallKind::kBucketTransfer:
    case CallKind::kAllGather: return seconds(model, hosts, bytes.bytes);
    case CallKind::kBroadcast: return tree_seconds(model, hosts, *std::max_element(bytes.bytes.begin(), bytes.bytes.end()));
    case CallKind::kReduce:
    case CallKind::kBarrier: return tree_seconds(model, hosts, 0);
  }
  return 0;
}

void check_calls(std::span<const Timeline> timelines) {
  check(!timelines.empty() && !timelines[0].steps.empty(), "profile_steps: there are no steps");
  for (const Timeline& timeline : timelines) {
    bool same = timeline.calls.size() == timelines[0].calls.size() && timeline.steps.size() == timelines[0].steps.size();
    for (size_t i = 0; same && i < timeline.calls.size(); ++i) {
      const TimelineCall &mine = timeline.calls[i], &first = timelines[0].calls[i];
      same = mine.name == first.name && mine.kind == first.kind && mine.layer == first.layer && mine.bytes.size() == timelines.size();
    }
    check(same, "profile_steps: the ranks did not issue the same collectives");
  }
}

// Bytes and predictions of every call.
void add_calls(std::span<const Timeline> timelines, std::span<const int> hosts, const std::optional<LinkModel>& model, const std::vector<Place>& places,
               std::map<Place, StepPart>& parts, StepProfile& profile) {
  for (size_t i = 0; i < places.size(); ++i) {
    Traffic bytes(profile.ranks);
    for (int from = 0; from < profile.ranks; ++from) {
      for (int to = 0; to < profile.ranks; ++to) bytes.at(from, to) = timelines[static_cast<size_t>(from)].calls[i].bytes[static_cast<size_t>(to)];
    }
    const CallKind kind = timelines[0].calls[i].kind;
    const std::string& name = places[i].second;
    Traffic& all = kind == CallKind::kTransfer ? profile.exchange
                   : name == "gradient sum"    ? profile.gradient_sum
                   : name == "publish"         ? profile.publish
                                               : profile.control;
    StepPart& part = parts[places[i]];
    for (size_t cell = 0; cell < all.bytes.size(); ++cell) all.bytes[cell] += bytes.bytes[cell];
    for (int from = 0; from < profile.ranks; ++from) bytes.at(from, from) = 0;
    part.bytes += static_cast<double>(bytes.total());
    if (model && profile.ranks > 1) part.predicted += call_seconds(*model, hosts, kind, bytes);
  }
}

// MoE layers in order, each from its router to its way home; then everything else, the largest first; the rest last.
std::vector<StepPart> in_order(std::map<Place, StepPart>& parts) {
  static constexpr std::array<const char*, 6> kMoe = {"moe", "router", "dispatch", "experts", "combine", "payload"};
  std::vector<StepPart> result;
  for (auto& [place, part] : parts) {
    part.layer = place.first;
    part.name = place.second;
    result.push_back(part);
  }
  const auto rank = [](const StepPart& part) {
    if (part.layer < 0) return std::pair(part.name == "rest" ? INT32_MAX : INT32_MAX - 1, 0L);
    return std::pair(part.layer, std::find(kMoe.begin(), kMoe.end(), part.name) - kMoe.begin());
  };
  std::stable_sort(result.begin(), result.end(), [&](const StepPart& a, const StepPart& b) {
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    return a.total() > b.total();
  });
  return result;
}

}  // namespace

std::string forward_name(const std::string& name) {
  for (const std::string_view ending : {" backward", ".backward"}) {
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  }
  return name;
}

double StepProfile::total() const {
  double sum = 0;
  for (const StepPart& part : parts) sum += part.total();
  return sum;
}

const StepPart* StepProfile::find(const std::string& name, int layer) const {
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const StepPart& part) { return part.name == name && part.layer == layer; });
  return found == parts.end() ? nullptr : &*found;
}

StepProfile profile_steps(std::span<const Timeline> timelines, std::span<const int> hosts, const std::optional<LinkModel>& model) {
  check_calls(timelines);
  StepProfile profile;
  profile.ranks = static_cast<int>(timelines.size());
  profile.steps = static_cast<int64_t>(timelines[0].steps.size());
  for (Traffic* traffic : {&profile.exchange, &profile.gradient_sum, &profile.publish, &profile.control}) *traffic = Traffic(profile.ranks);
  std::vector<double> slowest(timelines[0].steps.size(), 0);
  for (const Timeline& timeline : timelines) {
    for (size_t i = 0; i < slowest.size(); ++i) slowest[i] = std::max(slowest[i], seconds_of(timeline.steps[i].end_ns - timeline.steps[i].begin_ns));
  }
  profile.step = times_of(slowest);
  const std::vector<Arrivals> arrivals = arrivals_of(timelines);
  std::map<Place, StepPart> parts;
  std::vector<Place> places;
  for (const Timeline& timeline : timelines) {
    std::vector<Place> of_rank = RankProfile(timeline, arrivals, parts).run();
    if (timeline.rank == 0) places = std::move(of_rank);
  }
  add_calls(timelines, hosts, model, places, parts, profile);
  const double steps = static_cast<double>(profile.steps), all = steps * profile.ranks;
  for (auto& [place, part] : parts) {
    for (double* seconds : {&part.compute, &part.wait, &part.move, &part.hidden}) *seconds /= all;
    part.bytes /= steps;
    part.predicted /= steps;
  }
  profile.parts = in_order(parts);
  return profile;
}

}  // namespace switchyard
