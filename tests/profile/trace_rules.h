// The rules of Chrome's trace format that viewers depend on, checked on the events of a trace.json.
#pragma once

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace switchyard {

class TraceRules {
 public:
  explicit TraceRules(const nlohmann::json& events) {
    for (const nlohmann::json& event : events) read(event);
    for (auto& [place, slices] : slices_) check_nesting(place, slices);
    check_flows();
    for (const auto& [id, count] : open_) fail(count != 0, "transfer " + id + " begins and does not end");
    for (const auto& [place, slices] : slices_) fail(!named_.contains(place.first), "process " + std::to_string(place.first) + " has no name");
  }

  // The first rule that is broken; empty if none is.
  const std::string& violation() const { return violation_; }
  size_t processes() const { return named_.size(); }
  size_t slices(const std::string& name) const {
    size_t count = 0;
    for (const auto& [place, slices] : slices_) {
      for (const Slice& slice : slices) count += slice.name == name;
    }
    return count;
  }
  // Arrows from a slice whose name begins with `from` to one that begins with `to`.
  size_t flows(const std::string& from, const std::string& to) const {
    size_t count = 0;
    for (const auto& [id, flow] : flows_) {
      count += holder(flow.start).starts_with(from + ":") && holder(flow.finish).starts_with(to + ":");
    }
    return count;
  }

 private:
  using Place = std::pair<int, int>;  // pid, tid
  struct Slice {
    std::string name;
    double begin = 0, end = 0;
  };
  struct Point {
    Place place;
    double when = 0;
    bool seen = false;
  };
  struct Flow {
    Point start, finish;
  };
  static constexpr double kRounding = 0.0011;  // times are written to the nanosecond, in microseconds

  void fail(bool broken, const std::string& rule) {
    if (broken && violation_.empty()) violation_ = rule;
  }

  void read(const nlohmann::json& event) {
    const std::string phase = event.at("ph"), name = event.at("name");
    const Place place{event.at("pid").get<int>(), event.at("tid").get<int>()};
    if (phase == "M") {
      if (name == "process_name") {
        fail(!named_.insert(place.first).second, "process " + std::to_string(place.first) + " is named twice");
        fail(event.at("args").at("name") != "rank " + std::to_string(place.first), "process " + std::to_string(place.first) + " is not named after its rank");
      }
      return;
    }
    const double when = event.at("ts");
    fail(!(when >= 0), name + " begins before the trace");
    if (phase == "X") {
      const double duration = event.at("dur");
      fail(!(duration >= 0), name + " has no duration");
      slices_[place].push_back({name, when, when + duration});
    } else if (phase == "b" || phase == "e") {
      const std::string id = event.at("cat").get<std::string>() + event.at("id").get<std::string>();
      open_[id] += phase == "b" ? 1 : -1;
      fail(open_[id] < 0 || open_[id] > 1, "transfer " + id + " ends before it begins, or begins twice");
    } else if (phase == "s" || phase == "f") {
      Flow& flow = flows_[event.at("id")];
      Point& point = phase == "s" ? flow.start : flow.finish;
      fail(point.seen, "flow " + event.at("id").get<std::string>() + " has two of one end");
      fail(phase == "f" && event.value("bp", "") != "e", "a flow must end in the slice around it");
      point = {place, when, true};
    } else {
      fail(true, "an event of the unknown kind " + phase);
    }
  }

  void check_nesting(const Place& place, std::vector<Slice>& slices) {
    std::stable_sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
    std::vector<Slice> stack;
    for (const Slice& slice : slices) {
      while (!stack.empty() && stack.back().end <= slice.begin + kRounding) stack.pop_back();
      fail(!stack.empty() && slice.end > stack.back().end + kRounding,
           slice.name + " of process " + std::to_string(place.first) + " begins in " + (stack.empty() ? "" : stack.back().name) + " and ends behind it");
      stack.push_back(slice);
    }
  }

  // The name of the innermost slice around a point.
  std::string holder(const Point& point) const {
    const auto found = slices_.find(point.place);
    if (found == slices_.end()) return "";
    const Slice* best = nullptr;
    for (const Slice& slice : found->second) {
      if (slice.begin > point.when + kRounding || slice.end < point.when - kRounding) continue;
      if (best == nullptr || slice.end - slice.begin < best->end - best->begin) best = &slice;
    }
    return best == nullptr ? "" : best->name;
  }

  void check_flows() {
    for (const auto& [id, flow] : flows_) {
      fail(!flow.start.seen || !flow.finish.seen, "flow " + id + " has one end only");
      fail(flow.finish.when < flow.start.when, "flow " + id + " ends before it begins");
      fail(holder(flow.start).empty() || holder(flow.finish).empty(), "flow " + id + " ends in no slice");
    }
  }

  std::string violation_;
  std::set<int> named_;
  std::map<Place, std::vector<Slice>> slices_;
  std::map<std::string, Flow> flows_;
  std::map<std::string, int> open_;
};

}  // namespace switchyard
