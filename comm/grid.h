// Grid: who does what. Pure functions of the number of ranks; nothing here communicates.
//
// A step has `lanes` lanes; rank r works on lanes r, r + P, r + 2P, ... In round i the lanes i*P .. i*P + P - 1 are in
// flight, one per rank, and those >= lanes are empty. Experts are placed in contiguous runs; their number need not
// divide by P and a rank may host none.
#pragma once

#include <cstdint>

namespace switchyard {

struct ExpertRange {
  int first = 0;
  int count = 0;
};

class Grid {
 public:
  Grid(int rank, int size, int lanes) : rank_(rank), size_(size), lanes_(lanes) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  int lanes() const { return lanes_; }
  int rounds() const { return (lanes_ + size_ - 1) / size_; }
  int lanes_rounded_up() const { return rounds() * size_; }
  // The lane on which `rank` works in the round that `lane` belongs to.
  int lane_in_flight(int lane, int rank) const { return lane / size_ * size_ + rank; }

  // The rank that hosts an expert. `layer` is the number of the MoE layer; today every layer is placed alike.
  int owner([[maybe_unused]] int layer, int expert, int experts) const { return static_cast<int>(int64_t{expert} * size_ / experts); }
  // The experts that `rank` hosts.
  ExpertRange hosted(int layer, int rank, int experts) const {
    ExpertRange range;
    for (int expert = 0; expert < experts; ++expert) {
      if (owner(layer, expert, experts) != rank) continue;
      if (range.count == 0) range.first = expert;
      ++range.count;
    }
    return range;
  }

 private:
  int rank_, size_, lanes_;
};

}  // namespace switchyard
