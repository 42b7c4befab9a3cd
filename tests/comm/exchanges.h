// Random all_to_alls whose every number is known to the receiver.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "kernels/memory.h"

namespace switchyard {

// splitmix64: numbers that depend on the seed only.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }

 private:
  uint64_t state_;
};

// Gives the processor away a random number of times: one rank falls behind.
void dawdle(Dice& dice);

// Exact in every dtype, and far from what a narrower one could hold: element (row i, column c) that `sender` has for
// `receiver`.
double payload(Dtype dtype, int sender, int receiver, int64_t i, int64_t c);
void store(const Tensor& tensor, int64_t row, int64_t column, double value);
double load(const Tensor& tensor, int64_t row, int64_t column);

// What the matrix of counts is like.
enum class Matrix : uint8_t {
  kRandom,       // with empty rows, columns and pairs
  kHotRank,      // all send one rank eight times as much
  kSilentRank,   // one rank has nothing to send, but receives: no tokens
  kOneWay,       // only one rank sends, to one other
  kOnlyOwnRows,  // nobody sends to another
};
inline constexpr int kMatrices = 5;

struct ExchangeKind {
  uint64_t seed = 0;  // the same on every rank
  OutboxUse use = OutboxUse::kExchange;
  Dtype dtype = Dtype::kF32;
  int64_t columns = 3;
  int64_t most_rows = 6;  // of a pair
  Matrix matrix = Matrix::kRandom;
};

// One all_to_all under way, with what must arrive.
class RandomExchange {
 public:
  // Packs and sends. Row counts of pairs come from the seed, with empty rows and columns in the matrix; cuts, order and
  // gaps of the segments are each rank's own.
  RandomExchange(Communicator& comm, const ExchangeKind& kind, Event after = {});
  Event event() const { return event_; }
  // Fails the test unless every row is where it belongs and nothing else was written. Waits first.
  void verify();
  int64_t rows_to_others() const;
  const std::vector<int64_t>& counts() const { return counts_; }  // rows, [sender][receiver]

 private:
  Communicator& comm_;
  ExchangeKind kind_;
  std::vector<int64_t> counts_;  // [sender][receiver]
  std::vector<Segment> receive_;
  Buffer buffer_;
  Tensor inbox_;
  Event event_;

  int64_t count(int sender, int receiver) const { return counts_[static_cast<size_t>(sender * comm_.size() + receiver)]; }
};

}  // namespace switchyard
