#include "comm/segments.h"

#include <algorithm>
#include <cstring>

namespace switchyard {

void SegmentTable::build(std::span<const Segment> segments, int size, int64_t tensor_rows) {
  const size_t ranks = static_cast<size_t>(size);
  first_.assign(ranks, 0);
  count_.assign(ranks, 0);
  rows_.assign(ranks, 0);
  runs_.resize(segments.size());
  for (const Segment& segment : segments) {
    check(segment.peer >= 0 && segment.peer < size, "all_to_all: a segment names a rank that is not in the group");
    check(segment.first_row >= 0 && segment.rows >= 0 && segment.first_row <= tensor_rows && segment.rows <= tensor_rows - segment.first_row,
          "all_to_all: a segment names rows outside its tensor");
    ++count_[static_cast<size_t>(segment.peer)];
  }
  for (size_t peer = 1; peer < ranks; ++peer) first_[peer] = first_[peer - 1] + count_[peer - 1];
  std::fill(count_.begin(), count_.end(), 0);
  for (const Segment& segment : segments) {
    if (segment.rows == 0) continue;
    const size_t peer = static_cast<size_t>(segment.peer);
    rows_[peer] += segment.rows;
    Run* const begin = runs_.data() + first_[peer];
    Run* const end = begin + count_[peer];
    if (end != begin && end[-1].first_row + end[-1].rows == segment.first_row) {
      end[-1].rows += segment.rows;
    } else {
      *end = {segment.first_row, segment.rows};
      ++count_[peer];
    }
  }
}

void copy_runs(std::span<const Run> from, const char* source, std::span<const Run> to, char* target, int64_t row_bytes) {
  match_runs(from, to, [&](int64_t from_row, int64_t to_row, int64_t rows) {
    std::memcpy(target + to_row * row_bytes, source + from_row * row_bytes, static_cast<size_t>(rows * row_bytes));
  });
}

}  // namespace switchyard
