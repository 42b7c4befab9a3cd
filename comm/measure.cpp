#include "comm/measure.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "kernels/memory.h"

namespace switchyard {

int64_t measure_all_to_all(Communicator& comm, OutboxUse use, int64_t bytes_per_pair) {
  constexpr int kWarmUps = 2;
  constexpr size_t kRepeats = 5;
  const Call call{"measure transport", -1};
  const int64_t columns = bytes_per_pair / 4;
  const Buffer buffer = make_buffer(Dtype::kI32, {comm.size(), columns});
  const Tensor inbox = buffer.tensor(Dtype::kI32, {comm.size(), columns});
  std::vector<Segment> segments;
  for (int peer = 0; peer < comm.size(); ++peer) segments.push_back({peer, peer, 1});
  const auto exchange = [&] {
    const Tensor outbox = comm.outbox(use, Dtype::kI32, comm.size(), columns);
    comm.wait(comm.all_to_all(call, outbox, segments, inbox, segments, {}));
  };
  for (int i = 0; i < kWarmUps; ++i) exchange();
  std::array<int64_t, kRepeats> times{};
  for (int64_t& time : times) {
    comm.barrier(call);
    const auto begin = std::chrono::steady_clock::now();
    exchange();
    time = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin).count();
  }
  comm.reduce(call, times, Reduction::kMax);
  std::sort(times.begin(), times.end());
  return times[kRepeats / 2];
}

}  // namespace switchyard
