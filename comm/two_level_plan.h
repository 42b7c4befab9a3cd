// Who carries rows between hosts, and where they lie on the way. Pure functions of the host of each rank and the counts.
//
// For each ordered pair of hosts one rank of the first sends and one rank of the second receives, so that there are at
// most H(H-1) messages between hosts. The pairs are spread over the ranks of a host. A message holds the rows of all
// pairs (sender, receiver) in order of sender, then receiver.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "comm/link_model.h"
#include "comm/segments.h"

namespace switchyard {

class HostMap {
 public:
  // hosts[r] is any number that the ranks of r's host share. Hosts are numbered in order of their first rank.
  explicit HostMap(std::span<const int> hosts);

  int ranks() const { return static_cast<int>(host_.size()); }
  int hosts() const { return static_cast<int>(members_.size()); }
  int host(int rank) const { return host_[static_cast<size_t>(rank)]; }
  int place(int rank) const { return place_[static_cast<size_t>(rank)]; }  // among the ranks of its host
  const std::vector<int>& members(int host) const { return members_[static_cast<size_t>(host)]; }
  int carrier_out(int from, int to) const;  // the rank of `from` that sends to `to`
  int carrier_in(int from, int to) const;   // the rank of `to` that receives it

 private:
  std::vector<int> host_, place_;
  std::vector<std::vector<int>> members_;
};

// Rows that the ranks of one host send to and get from every rank: numbers [g, 2, P].
struct HostCounts {
  std::span<const int64_t> numbers;
  int ranks = 0;

  int64_t sent(int place, int rank) const { return numbers[static_cast<size_t>(2 * place * ranks + rank)]; }
  int64_t received(int place, int rank) const { return numbers[static_cast<size_t>((2 * place + 1) * ranks + rank)]; }
};

// The way of one rank's rows, up to the rank that receives for its host. Peers of collect are places in the host.
struct TwoLevelPlan {
  std::vector<Segment> collect_out, collect_in;  // outbox -> staging: per host to which this rank sends, then rows for itself
  std::vector<Segment> across_out, across_in;    // staging -> arrived
  int64_t staged_rows = 0;
  int64_t local_first_row = 0;  // in staging: rows from the ranks of this host, in order of place
  int64_t arrived_rows = 0;

  void build(const HostMap& map, int rank, const HostCounts& counts, const SegmentTable& send);
};

// The last part of the way: each receiving rank hands out what has arrived, in rounds of at most `round_rows` rows, the
// same number of rounds on every rank of the host.
class Delivery {
 public:
  // `receive` holds the places of rows in the inbox, by sender; both outlive the rounds.
  void begin(const HostMap& map, int rank, const HostCounts& counts, const SegmentTable& receive, int64_t round_rows);
  int64_t rounds() const { return rounds_; }
  // Rows of `arrived` that this rank hands out in round k: first row and number.
  Run handed_out(int64_t round) const;
  // The segments of round k, to be asked for in order: out of the rows handed_out, into the inbox. Peers are places.
  void next(int64_t round, std::vector<Segment>& out, std::vector<Segment>& in);

 private:
  // Rows first .. first + rows - 1 of those that `sender` has for this rank, as places in the inbox.
  void place_rows(int carrier, int sender, int64_t rows, std::vector<Segment>& in);

  const HostMap* map_ = nullptr;
  int rank_ = 0;
  HostCounts counts_;
  const SegmentTable* receive_ = nullptr;
  int64_t round_rows_ = 0;
  int64_t rounds_ = 0;
  int64_t own_rows_ = 0;         // that this rank hands out in all
  std::vector<int64_t> placed_;  // [P] rows of each sender that have their place
};

// What the three parts of the way move between ranks: bytes [3, P, P] of collect, across and deliver, from `bytes`
// [P, P].
std::array<std::vector<int64_t>, 3> two_level_bytes(const HostMap& map, std::span<const int64_t> bytes);

// What a two-level all_to_all costs where seconds() of link_model.h is what the flat one does: the three parts one after
// another.
double two_level_seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes);

}  // namespace switchyard
