#include "tests/cuda/comm/host_face.h"

#include <algorithm>

namespace switchyard::cuda {

void HostFace::copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
  if (bytes > 0) require(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, gpu_.compute()), "cudaMemcpyAsync");
}

Tensor HostFace::outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  const Tensor there = inner_->outbox(use, dtype, rows, columns);
  check(there.device() == Device::kCuda, "the outbox is not on the device");
  Face& face = faces_[there.data()];
  if (face.buffer.data() == nullptr || face.buffer.bytes() < there.bytes()) face.buffer = Buffer(std::max<int64_t>(there.bytes(), 1));
  face.there = there;
  return Tensor(face.buffer.data(), dtype, {rows, columns});
}

Event HostFace::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) {
  const auto face = std::find_if(faces_.begin(), faces_.end(), [&](const auto& entry) { return entry.second.buffer.data() == outbox.data(); });
  if (face == faces_.end()) return inner_->all_to_all(call, outbox, send, inbox, receive, after);  // which refuses it
  copy(face->second.there.data(), outbox.data(), outbox.bytes(), cudaMemcpyHostToDevice);
  Arrival arrival{inbox, Buffer(std::max<int64_t>(inbox.bytes(), 1), gpu_.memory()), {}};
  arrival.there = Tensor(arrival.buffer.data(), inbox.dtype(), {inbox.rows(), inbox.columns()}, Device::kCuda);
  copy(arrival.there.data(), inbox.data(), inbox.bytes(), cudaMemcpyHostToDevice);
  const Event event = inner_->all_to_all(call, face->second.there, send, arrival.there, receive, after);
  arrivals_.emplace(event.ticket, std::move(arrival));
  return event;
}

void HostFace::wait(Event event) {
  inner_->wait(event);
  const auto found = arrivals_.find(event.ticket);
  if (found == arrivals_.end()) return;
  const Arrival& arrival = found->second;
  gpu_.finish();
  copy(arrival.inbox.data(), arrival.there.data(), arrival.inbox.bytes(), cudaMemcpyDeviceToHost);
  gpu_.finish();
  arrivals_.erase(found);
}

}  // namespace switchyard::cuda
