// Grid: who does what. Pure functions of the number of ranks; nothing here communicates.
//
// A step has `lanes` lanes; rank r works on lanes r, r + P, r + 2P, ... In round i the lanes i*P .. i*P + P - 1 are in
// flight, one per rank, and those >= lanes are empty.
//
// Every expert has R replicas, and lane w feeds replica w mod R. A replica of an expert is a *copy*; those of a layer are
// numbered replica * E + expert and placed in contiguous runs of that order on the ranks, which are taken in the order of
// (rank mod R, rank). So where R divides P, replica k lives on the ranks k, k + R, k + 2R, ..., whose lanes are those that
// feed it, and rows travel only among them: with R = P they stay at home. Nothing needs to divide: a rank may host copies
// of several replicas, several of one expert, or none.
#pragma once

#include <algorithm>
#include <cstdint>

#include "src/base/checked.h"

namespace switchyard {

// Neighbouring experts, or copies.
struct ExpertRange {
  int first = 0;
  int count = 0;
};

class Grid {
 public:
  Grid(int rank, int size, int lanes, int replicas = 1) : rank_(rank), size_(size), lanes_(lanes), replicas_(replicas) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  int lanes() const { return lanes_; }
  int replicas() const { return replicas_; }
  int rounds() const { return (lanes_ + size_ - 1) / size_; }
  int lanes_rounded_up() const { return rounds() * size_; }
  // The lane on which `rank` works in the round that `lane` belongs to.
  int lane_in_flight(int lane, int rank) const { return lane / size_ * size_ + rank; }
  // The replica that a lane feeds.
  int replica(int64_t lane) const { return static_cast<int>(lane % replicas_); }

  // The rank that hosts a replica of an expert. `layer` is the number of the MoE layer; today every layer is placed alike.
  int owner([[maybe_unused]] int layer, int expert, int experts, int replica = 0) const {
    const int64_t copy = int64_t{replica} * experts + expert;
    return rank_at(static_cast<int>(copy * size_ / (int64_t{experts} * replicas_)));
  }
  // The copies that `rank` hosts.
  ExpertRange hosted([[maybe_unused]] int layer, int rank, int experts) const {
    const int64_t place = place_of(rank), copies = int64_t{experts} * replicas_;
    const auto first = static_cast<int>((place * copies + size_ - 1) / size_), end = static_cast<int>(((place + 1) * copies + size_ - 1) / size_);
    return {end > first ? first : 0, end - first};
  }
  // Of such copies, the experts of one replica.
  static ExpertRange of_replica(ExpertRange copies, int replica, int experts) {
    const int64_t start = int64_t{replica} * experts;
    const int64_t first = std::max<int64_t>(copies.first, start), end = std::min<int64_t>(int64_t{copies.first} + copies.count, start + experts);
    return end > first ? ExpertRange{static_cast<int>(first - start), static_cast<int>(end - first)} : ExpertRange{};
  }

  // The largest total, over ranks and rounds, of what each lane in flight costs a rank: cost(number of its copies that the
  // lane feeds).
  template <class Cost>
  int64_t most_in_flight(int layer, int experts, Cost cost) const {
    int64_t most = 0;
    const int different = std::min(rounds(), replicas_);  // rounds after that repeat these
    for (int rank = 0; rank < size_; ++rank) {
      const ExpertRange copies = hosted(layer, rank, experts);
      for (int round = 0; round < different; ++round) {
        int64_t total = 0;
        for (int peer = 0; peer < size_; ++peer) total = checked_add(total, cost(of_replica(copies, replica(int64_t{round} * size_ + peer), experts).count));
        most = std::max(most, total);
      }
    }
    return most;
  }

 private:
  // The order in which ranks host copies: by (rank mod R, rank). The first P mod R classes have one rank more.
  int place_of(int rank) const {
    const int klass = rank % replicas_;
    return klass * (size_ / replicas_) + std::min(klass, size_ % replicas_) + rank / replicas_;
  }
  int rank_at(int place) const {
    const int each = size_ / replicas_, longer = size_ % replicas_;
    if (place < longer * (each + 1)) return place % (each + 1) * replicas_ + place / (each + 1);
    place -= longer * (each + 1);
    return place % each * replicas_ + longer + place / each;
  }

  int rank_, size_, lanes_, replicas_;
};

}  // namespace switchyard
