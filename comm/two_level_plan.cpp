#include "comm/two_level_plan.h"

#include <algorithm>
#include <limits>
#include <map>

#include "src/base/checked.h"

namespace switchyard {
namespace {

// Calls visit(sender, place, rows) for the rows that reach `carrier` for the ranks of its host, in the order in which
// they lie there.
template <class Visit>
void for_each_arriving(const HostMap& map, int carrier, const HostCounts& counts, Visit visit) {
  const int here = map.host(carrier);
  for (int from = 0; from < map.hosts(); ++from) {
    if (from == here || map.carrier_in(from, here) != carrier) continue;
    for (const int sender : map.members(from)) {
      for (int place = 0; place < static_cast<int>(map.members(here).size()); ++place) visit(sender, place, counts.received(place, sender));
    }
  }
}

int64_t arriving_rows(const HostMap& map, int carrier, const HostCounts& counts) {
  int64_t rows = 0;
  for_each_arriving(map, carrier, counts, [&](int, int, int64_t count) { rows += count; });
  return rows;
}

// The number of `other` among the hosts that are not `host`.
int number_among_others(int host, int other, int hosts) { return (other - host - 1 + hosts) % hosts; }

}  // namespace

HostMap::HostMap(std::span<const int> hosts) {
  std::map<int, int> number;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    const auto [known, is_new] = number.emplace(hosts[rank], static_cast<int>(members_.size()));
    if (is_new) members_.emplace_back();
    std::vector<int>& members = members_[static_cast<size_t>(known->second)];
    host_.push_back(known->second);
    place_.push_back(static_cast<int>(members.size()));
    members.push_back(static_cast<int>(rank));
  }
}

int HostMap::carrier_out(int from, int to) const {
  const std::vector<int>& ranks = members(from);
  return ranks[static_cast<size_t>(number_among_others(from, to, hosts())) % ranks.size()];
}

int HostMap::carrier_in(int from, int to) const {
  const std::vector<int>& ranks = members(to);
  return ranks[static_cast<size_t>(number_among_others(to, from, hosts())) % ranks.size()];
}

void TwoLevelPlan::build(const HostMap& map, int rank, const HostCounts& counts, const SegmentTable& send) {
  const int here = map.host(rank);
  const std::vector<int>& mates = map.members(here);
  const int places = static_cast<int>(mates.size());
  collect_out.clear();
  collect_in.clear();
  across_out.clear();
  across_in.clear();
  const auto hand_over = [&](int carrier, int receiver) {
    for (const Run& run : send.runs(receiver)) collect_out.push_back({map.place(carrier), run.first_row, run.rows});
  };
  staged_rows = 0;
  arrived_rows = 0;
  for (int other = 0; other < map.hosts(); ++other) {
    if (other == here) continue;
    for (const int receiver : map.members(other)) hand_over(map.carrier_out(here, other), receiver);
    if (map.carrier_out(here, other) == rank) {
      const int64_t first = staged_rows;
      for (int place = 0; place < places; ++place) {
        int64_t rows = 0;
        for (const int receiver : map.members(other)) rows += counts.sent(place, receiver);
        collect_in.push_back({place, staged_rows, rows});
        staged_rows += rows;
      }
      if (staged_rows > first) across_out.push_back({map.carrier_in(here, other), first, staged_rows - first});
    }
    if (map.carrier_in(other, here) == rank) {
      int64_t rows = 0;
      for (const int sender : map.members(other)) {
        for (int place = 0; place < places; ++place) rows += counts.received(place, sender);
      }
      if (rows > 0) across_in.push_back({map.carrier_out(other, here), arrived_rows, rows});
      arrived_rows += rows;
    }
  }
  local_first_row = staged_rows;
  for (const int mate : mates) hand_over(mate, mate);
  for (int place = 0; place < places; ++place) {
    const int64_t rows = counts.sent(place, rank);
    collect_in.push_back({place, staged_rows, rows});
    staged_rows += rows;
  }
}

void Delivery::begin(const HostMap& map, int rank, const HostCounts& counts, const SegmentTable& receive, int64_t round_rows) {
  map_ = &map;
  rank_ = rank;
  counts_ = counts;
  receive_ = &receive;
  round_rows_ = round_rows;
  rounds_ = 0;
  for (const int carrier : map.members(map.host(rank))) rounds_ = std::max(rounds_, divide_up(arriving_rows(map, carrier, counts), round_rows));
  own_rows_ = arriving_rows(map, rank, counts);
  placed_.assign(static_cast<size_t>(map.ranks()), 0);
}

Run Delivery::handed_out(int64_t round) const {
  const int64_t first = std::min(own_rows_, round * round_rows_);
  return {first, std::min(round_rows_, own_rows_ - first)};
}

void Delivery::next(int64_t round, std::vector<Segment>& out, std::vector<Segment>& in) {
  out.clear();
  in.clear();
  const int64_t begin = round * round_rows_;
  for (const int carrier : map_->members(map_->host(rank_))) {
    int64_t row = -begin;  // of the block that is visited, counted from the first one of this round
    for_each_arriving(*map_, carrier, counts_, [&](int sender, int place, int64_t rows) {
      const int64_t first = std::max<int64_t>(row, 0);
      const int64_t last = std::min(row + rows, round_rows_);
      row += rows;
      if (first >= last) return;
      if (carrier == rank_) out.push_back({place, first, last - first});
      if (place == map_->place(rank_)) place_rows(map_->place(carrier), sender, last - first, in);
    });
  }
}

void Delivery::place_rows(int carrier, int sender, int64_t rows, std::vector<Segment>& in) {
  int64_t& placed = placed_[static_cast<size_t>(sender)];
  int64_t skip = placed;
  placed += rows;
  for (const Run& run : receive_->runs(sender)) {
    const int64_t begin = std::min(skip, run.rows);
    const int64_t taken = std::min(run.rows - begin, rows);
    skip -= begin;
    rows -= taken;
    if (taken > 0) in.push_back({carrier, run.first_row + begin, taken});
    if (rows == 0) return;
  }
}

std::array<std::vector<int64_t>, 3> two_level_bytes(const HostMap& map, std::span<const int64_t> bytes) {
  const size_t ranks = static_cast<size_t>(map.ranks());
  check(bytes.size() == ranks * ranks, "a count matrix is not one number for each pair of ranks");
  std::array<std::vector<int64_t>, 3> parts;
  for (std::vector<int64_t>& part : parts) part.assign(bytes.size(), 0);
  const auto add = [&](int part, int sender, int receiver, int64_t count) {
    if (sender != receiver) parts[static_cast<size_t>(part)][static_cast<size_t>(sender) * ranks + static_cast<size_t>(receiver)] += count;
  };
  for (int sender = 0; sender < map.ranks(); ++sender) {
    for (int receiver = 0; receiver < map.ranks(); ++receiver) {
      const int64_t count = bytes[static_cast<size_t>(sender) * ranks + static_cast<size_t>(receiver)];
      const int from = map.host(sender);
      const int to = map.host(receiver);
      if (from == to) {
        add(0, sender, receiver, count);
        continue;
      }
      add(0, sender, map.carrier_out(from, to), count);
      add(1, map.carrier_out(from, to), map.carrier_in(from, to), count);
      add(2, map.carrier_in(from, to), receiver, count);
    }
  }
  return parts;
}

double two_level_seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes) {
  double sum = 0;
  for (const std::vector<int64_t>& part : two_level_bytes(HostMap(hosts), bytes)) sum += seconds(model, hosts, part);
  return sum;
}

}  // namespace switchyard
