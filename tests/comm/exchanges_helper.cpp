#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/comm/exchanges.h"

namespace switchyard {
namespace {

constexpr double kUntouched = 200;  // payloads differ from it in every dtype

double offset(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64: return 1099511627776.0;  // 2^40: lost in F32
    case Dtype::kF32: return 1048576.0;        // 2^20: lost in BF16
    case Dtype::kI32: return 1073741824.0;     // 2^30: lost in F32
    case Dtype::kBF16: return 0;
  }
  return 0;
}

// A matrix of counts with empty rows, empty columns and empty pairs.
std::vector<int64_t> random_counts(Dice& dice, int size, int64_t most_rows) {
  const auto empty = [&] { return dice.below(4) == 0; };
  std::vector<bool> silent, deaf;
  for (int rank = 0; rank < size; ++rank) {
    silent.push_back(empty());
    deaf.push_back(empty());
  }
  std::vector<int64_t> counts;
  for (int sender = 0; sender < size; ++sender) {
    for (int receiver = 0; receiver < size; ++receiver) {
      const int64_t rows = dice.below(most_rows + 1);
      counts.push_back(silent[static_cast<size_t>(sender)] || deaf[static_cast<size_t>(receiver)] ? 0 : rows);
    }
  }
  return counts;
}

std::vector<int64_t> counts_of(Dice& dice, int size, const ExchangeKind& kind) {
  if (kind.matrix == Matrix::kRandom) return random_counts(dice, size, kind.most_rows);
  const int chosen = static_cast<int>(dice.below(size));
  const int other = static_cast<int>(dice.below(size));
  std::vector<int64_t> counts;
  for (int sender = 0; sender < size; ++sender) {
    for (int receiver = 0; receiver < size; ++receiver) {
      int64_t rows = 1 + dice.below(kind.most_rows);
      if (kind.matrix == Matrix::kHotRank && receiver == chosen) rows *= 8;
      if (kind.matrix == Matrix::kSilentRank && sender == chosen) rows = 0;
      if (kind.matrix == Matrix::kOneWay && (sender != chosen || receiver != other)) rows = 0;
      if (kind.matrix == Matrix::kOnlyOwnRows && sender != receiver) rows = 0;
      counts.push_back(rows);
    }
  }
  return counts;
}

// Segments that hold rows[peer] rows for each peer, cut at random, peers in turn at random, with gaps.
std::vector<Segment> random_segments(Dice& dice, std::vector<int64_t> rows, int64_t& tensor_rows) {
  std::vector<Segment> segments;
  int64_t next = dice.below(3);
  int64_t left = 0;
  for (int64_t r : rows) left += r;
  while (left > 0) {
    const size_t peer = static_cast<size_t>(dice.below(static_cast<int64_t>(rows.size())));
    const int64_t taken = std::min(rows[peer], dice.below(4));  // often 0: an empty segment
    segments.push_back({static_cast<int>(peer), next, taken});
    rows[peer] -= taken;
    left -= taken;
    next += taken + dice.below(2);
  }
  tensor_rows = next;
  return segments;
}

}  // namespace

void dawdle(Dice& dice) {
  for (int64_t i = dice.below(60); i > 0; --i) std::this_thread::yield();
}

double payload(Dtype dtype, int sender, int receiver, int64_t i, int64_t c) {
  return offset(dtype) + static_cast<double>((sender * 37 + receiver * 11 + i * 5 + c * 3) % 199);
}

void store(const Tensor& tensor, int64_t row, int64_t column, double value) {
  switch (tensor.dtype()) {
    case Dtype::kF64: tensor.row<double>(row)[column] = value; break;
    case Dtype::kF32: tensor.row<float>(row)[column] = static_cast<float>(value); break;
    case Dtype::kBF16: tensor.row<BFloat16>(row)[column] = BFloat16(static_cast<float>(value)); break;
    case Dtype::kI32: tensor.row<int32_t>(row)[column] = static_cast<int32_t>(value); break;
  }
}

double load(const Tensor& tensor, int64_t row, int64_t column) {
  switch (tensor.dtype()) {
    case Dtype::kF64: return tensor.row<double>(row)[column];
    case Dtype::kF32: return static_cast<double>(tensor.row<float>(row)[column]);
    case Dtype::kBF16: return static_cast<double>(tensor.row<BFloat16>(row)[column]);
    case Dtype::kI32: return static_cast<double>(tensor.row<int32_t>(row)[column]);
  }
  return 0;
}

RandomExchange::RandomExchange(Communicator& comm, const ExchangeKind& kind, Event after) : comm_(comm), kind_(kind) {
  Dice shared(kind.seed);
  counts_ = counts_of(shared, comm.size(), kind);
  Dice own(kind.seed * 1000 + static_cast<uint64_t>(comm.rank()));
  std::vector<int64_t> to, from;
  for (int peer = 0; peer < comm.size(); ++peer) {
    to.push_back(count(comm.rank(), peer));
    from.push_back(count(peer, comm.rank()));
  }
  int64_t outbox_rows = 0;
  int64_t inbox_rows = 0;
  const std::vector<Segment> send = random_segments(own, to, outbox_rows);
  receive_ = random_segments(own, from, inbox_rows);
  buffer_ = make_buffer(kind.dtype, {inbox_rows, kind.columns});
  inbox_ = buffer_.tensor(kind.dtype, {inbox_rows, kind.columns});
  for (int64_t row = 0; row < inbox_rows; ++row) {
    for (int64_t c = 0; c < kind.columns; ++c) store(inbox_, row, c, kUntouched);
  }
  const Tensor outbox = comm.outbox(kind.use, kind.dtype, outbox_rows, kind.columns);
  std::vector<int64_t> sent(static_cast<size_t>(comm.size()), 0);
  for (const Segment& segment : send) {
    for (int64_t row = 0; row < segment.rows; ++row) {
      const int64_t i = sent[static_cast<size_t>(segment.peer)]++;
      for (int64_t c = 0; c < kind.columns; ++c) store(outbox, segment.first_row + row, c, payload(kind.dtype, comm.rank(), segment.peer, i, c));
    }
  }
  event_ = comm.all_to_all({"exchange", 5}, outbox, send, inbox_, receive_, after);
}

int64_t RandomExchange::rows_to_others() const {
  int64_t rows = 0;
  for (int peer = 0; peer < comm_.size(); ++peer) rows += peer == comm_.rank() ? 0 : count(comm_.rank(), peer);
  return rows;
}

void RandomExchange::verify() {
  comm_.wait(event_);
  std::vector<int64_t> arrived(static_cast<size_t>(comm_.size()), 0);
  std::vector<bool> written(static_cast<size_t>(inbox_.rows()), false);
  for (const Segment& segment : receive_) {
    for (int64_t row = segment.first_row; row < segment.first_row + segment.rows; ++row) {
      const int64_t i = arrived[static_cast<size_t>(segment.peer)]++;
      written[static_cast<size_t>(row)] = true;
      for (int64_t c = 0; c < kind_.columns; ++c) {
        ASSERT_EQ(load(inbox_, row, c), payload(kind_.dtype, segment.peer, comm_.rank(), i, c))
            << "rank " << comm_.rank() << ", row " << i << " from rank " << segment.peer << ", column " << c << ", dtype " << name(kind_.dtype) << ", seed "
            << kind_.seed;
      }
    }
  }
  for (int64_t row = 0; row < inbox_.rows(); ++row) {
    if (written[static_cast<size_t>(row)]) continue;
    for (int64_t c = 0; c < kind_.columns; ++c) {
      ASSERT_EQ(load(inbox_, row, c), kUntouched) << "rank " << comm_.rank() << " got row " << row << ", which nobody sent; seed " << kind_.seed;
    }
  }
}

}  // namespace switchyard
