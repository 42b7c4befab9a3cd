// SegmentTable: the segments of one side of an all_to_all, sorted by peer.
//
// A list names its segments in any order of peers. The table keeps, for each peer, the runs of rows in list order, with
// empty segments left out and neighbours joined. Its vectors keep their memory from one transfer to the next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.h"

namespace switchyard {

struct Run {
  int64_t first_row = 0;
  int64_t rows = 0;
};

class SegmentTable {
 public:
  // Throws InternalError where a segment names a rank outside 0 .. size - 1 or rows outside 0 .. tensor_rows - 1.
  void build(std::span<const Segment> segments, int size, int64_t tensor_rows);

  std::span<const Run> runs(int peer) const {
    const size_t p = static_cast<size_t>(peer);
    return {runs_.data() + first_[p], static_cast<size_t>(count_[p])};
  }
  int64_t rows(int peer) const { return rows_[static_cast<size_t>(peer)]; }

 private:
  std::vector<Run> runs_;       // of peer 0, then of peer 1, ...; gaps where neighbours were joined
  std::vector<int64_t> first_;  // [size] where a peer's runs begin
  std::vector<int64_t> count_;  // [size] how many there are
  std::vector<int64_t> rows_;   // [size] rows of all runs of a peer
};

// Calls visit(first row of one side, first row of the other, rows) for what lies together on both, in list order. Both
// sides hold the same number of rows; their cuts may differ.
template <class Visit>
void match_runs(std::span<const Run> from, std::span<const Run> to, Visit visit) {
  size_t in = 0;
  size_t out = 0;
  int64_t in_done = 0;  // rows of run `in` that are matched
  int64_t out_done = 0;
  while (in < from.size() && out < to.size()) {
    const int64_t rows = std::min(from[in].rows - in_done, to[out].rows - out_done);
    visit(from[in].first_row + in_done, to[out].first_row + out_done, rows);
    in_done += rows;
    out_done += rows;
    if (in_done == from[in].rows) {
      ++in;
      in_done = 0;
    }
    if (out_done == to[out].rows) {
      ++out;
      out_done = 0;
    }
  }
}

// Copies rows of `row_bytes` bytes from the runs of one side to the runs of the other, likewise.
void copy_runs(std::span<const Run> from, const char* source, std::span<const Run> to, char* target, int64_t row_bytes);

}  // namespace switchyard
