// NCCL: groups, sends and receives, and collectives. Each becomes work of its stream. Reductions add in the order of the
// ranks, so that every run and every rank has the same bits; the real library has another order.
#include <cuda_bf16.h>
#include <nccl.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/nccl_communicator.h"
#include "tests/cuda_emulation/runtime.h"

using namespace switchyard::emulation;

namespace {

// 0 for a type that is not carried.
size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 0;
  }
}

template <class Wide>
Wide combined(ncclRedOp_t operation, Wide a, Wide b) {
  switch (operation) {
    case ncclMax: return b > a ? b : a;
    case ncclMin: return b < a ? b : a;
    case ncclProd: return a * b;
    default: return a + b;
  }
}

// parts[r][i] over r in the order of the ranks, in Wide, rounded once.
template <class Stored, class Wide>
void reduce_as(const std::vector<Bytes>& parts, size_t count, ncclRedOp_t operation, void* target) {
  for (size_t i = 0; i < count; ++i) {
    Wide total{};
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      Stored part;
      std::memcpy(static_cast<void*>(&part), parts[rank].data() + i * sizeof(Stored), sizeof(Stored));
      const Wide value = static_cast<Wide>(part);
      total = rank == 0 ? value : combined(operation, total, value);
    }
    if (operation == ncclAvg) total /= static_cast<Wide>(parts.size());
    const Stored result = static_cast<Stored>(total);
    std::memcpy(static_cast<std::byte*>(target) + i * sizeof(Stored), static_cast<const void*>(&result), sizeof(Stored));
  }
}

void reduce(const std::vector<Bytes>& parts, size_t count, ncclDataType_t type, ncclRedOp_t operation, void* target) {
  switch (type) {
    case ncclFloat32: return reduce_as<float, float>(parts, count, operation, target);
    case ncclFloat64: return reduce_as<double, double>(parts, count, operation, target);
    case ncclBfloat16: return reduce_as<__nv_bfloat16, float>(parts, count, operation, target);
    case ncclInt32: return reduce_as<int32_t, int32_t>(parts, count, operation, target);
    case ncclUint64: return reduce_as<uint64_t, uint64_t>(parts, count, operation, target);
    default: return reduce_as<int64_t, int64_t>(parts, count, operation, target);
  }
}

bool can_reduce(ncclDataType_t type, ncclRedOp_t operation) {
  const bool known = type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16 || type == ncclInt32 || type == ncclInt64 || type == ncclUint64;
  return known && operation >= ncclSum && operation <= ncclAvg;
}

// A call on its way: its exchange, and what was wrong with it.
struct Issue {
  ncclComm_t comm;
  cudaStream_t stream;
  ncclDataType_t type;
  ncclResult_t error = ncclSuccess;
  std::shared_ptr<Exchange> exchange;

  Issue(ncclComm_t a_comm, cudaStream_t a_stream, ncclDataType_t a_type) : comm(a_comm), stream(a_stream), type(a_type) {
    error = check_usable(comm);
    if (error != ncclSuccess) return;
    if (bytes_of(type) == 0) error = refuse(ncclInvalidArgument, "the emulation does not carry this type");
    if (find_stream(stream) == nullptr) error = refuse(ncclInvalidArgument, "the stream does not exist");
    exchange = std::make_shared<Exchange>(comm->members);
  }

  bool good() const { return error == ncclSuccess; }
  size_t ranks() const { return static_cast<size_t>(comm->members->size()); }
  int rank() const { return comm->members->rank; }
  size_t bytes(size_t count) const { return count * bytes_of(type); }

  // The memory of an operand: `count` elements of the device.
  void needs(const void* data, size_t count) {
    if (!good() || count == 0) return;
    if (bytes(count) > INT_MAX - 1024) error = refuse(ncclInvalidArgument, "the emulation carries less than 2 GiB at once");
    if (device_bytes_from(data) < bytes(count)) error = refuse(ncclInvalidArgument, "an operand is not inside one allocation of the device");
  }
  void needs_peer(int peer) {
    if (good() && (peer < 0 || peer >= comm->members->size())) error = refuse(ncclInvalidArgument, "there is no such peer");
  }
  void needs_reduction(ncclRedOp_t operation) {
    if (good() && !can_reduce(type, operation)) error = refuse(ncclInvalidArgument, "the emulation does not reduce this type, or not so");
  }

  Label label(Call call, size_t count, int detail = 0) const { return {call, static_cast<int32_t>(type), detail, bytes(count)}; }

  // Part p of `source`, `step` elements after the one before, to rank p; one part from each rank.
  void exchange_all(const Label& label, const void* source, size_t step) {
    for (size_t peer = 0; peer < ranks(); ++peer) {
      exchange->send(static_cast<int>(peer), label, static_cast<const std::byte*>(source) + bytes(step) * peer);
      exchange->receive(static_cast<int>(peer), label);
    }
  }

  ncclResult_t done() const { return good() ? issue({comm, stream, exchange}) : error; }
};

// Copies parts one behind the other.
void concatenate(const std::vector<Bytes>& parts, void* target) {
  auto* at = static_cast<std::byte*>(target);
  for (const Bytes& part : parts) at = std::copy(part.begin(), part.end(), at);
}

// The exchanges of a group that go to one stream run together; the next work of the stream waits for all.
cudaError_t enqueue_together(cudaStream_t stream, const std::vector<Work>& together) {
  auto left = std::make_shared<std::vector<Work>>(together);
  // Counted as long as the stream holds the work, which it may also drop.
  std::vector<std::shared_ptr<Members>> held;
  for (const Work& work : together) {
    const std::shared_ptr<Members> members = work.comm->members;
    ++members->outstanding;
    held.emplace_back(members.get(), [members](Members*) { --members->outstanding; });
  }
  return enqueue_polled(stream, [left, held = std::move(held)] {
    std::erase_if(*left, [](const Work& work) { return work.exchange->poll(); });
    return left->empty();
  });
}

ncclResult_t run_together(std::vector<Work> all) {
  while (!all.empty()) {
    const cudaStream_t stream = all.front().stream;
    std::vector<Work> together;
    std::copy_if(all.begin(), all.end(), std::back_inserter(together), [stream](const Work& work) { return work.stream == stream; });
    std::erase_if(all, [stream](const Work& work) { return work.stream == stream; });
    if (enqueue_together(stream, together) != cudaSuccess) return refuse(ncclUnhandledCudaError, "the stream takes no work");
  }
  return ncclSuccess;
}

}  // namespace

namespace switchyard::emulation {

// Communicators that do not block launch at the next ncclCommGetAsyncError: until it says ncclSuccess, nothing is in the
// stream, and an event recorded there does not cover it.
ncclResult_t issue(const Work& work) {
  group().work.push_back(work);
  if (group().depth > 0) return ncclSuccess;
  std::vector<Work> all;
  all.swap(group().work);
  const auto lazy = std::find_if(all.begin(), all.end(), [](const Work& one) { return !one.comm->blocking; });
  if (lazy == all.end()) return run_together(all);
  const ncclComm_t comm = lazy->comm;
  return finish(comm, [comm, all] {
    comm->error = run_together(all);
    return true;
  });
}

}  // namespace switchyard::emulation

extern "C" {

ncclResult_t ncclGroupStart() {
  ++group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group().depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--group().depth > 0 || group().work.empty()) return ncclSuccess;
  const Work last = group().work.back();
  group().work.pop_back();
  return issue(last);
}

ncclResult_t ncclSend(const void* source, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  call.needs_peer(peer);
  call.needs(source, count);
  if (call.good()) call.exchange->send(peer, call.label(Call::kSend, count), source);
  return call.done();
}

ncclResult_t ncclRecv(void* target, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  call.needs_peer(peer);
  call.needs(target, count);
  if (!call.good()) return call.error;
  call.exchange->receive(peer, call.label(Call::kSend, count));
  call.exchange->then([target](const std::vector<Bytes>& parts) { concatenate(parts, target); });
  return call.done();
}

ncclResult_t ncclAllReduce(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  call.needs(source, count);
  call.needs(target, count);
  call.needs_reduction(operation);
  if (!call.good()) return call.error;
  call.exchange_all(call.label(Call::kAllReduce, count, operation), source, 0);
  call.exchange->then([=](const std::vector<Bytes>& parts) { reduce(parts, count, type, operation, target); });
  return call.done();
}

ncclResult_t ncclReduceScatter(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t operation, ncclComm_t comm,
                               cudaStream_t stream) {
  Issue call(comm, stream, type);
  if (call.good()) call.needs(source, count * call.ranks());
  call.needs(target, count);
  call.needs_reduction(operation);
  if (!call.good()) return call.error;
  call.exchange_all(call.label(Call::kReduceScatter, count, operation), source, count);
  call.exchange->then([=](const std::vector<Bytes>& parts) { reduce(parts, count, type, operation, target); });
  return call.done();
}

ncclResult_t ncclAllGather(const void* source, void* target, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  call.needs(source, count);
  if (call.good()) call.needs(target, count * call.ranks());
  if (!call.good()) return call.error;
  call.exchange_all(call.label(Call::kAllGather, count), source, 0);
  call.exchange->then([target](const std::vector<Bytes>& parts) { concatenate(parts, target); });
  return call.done();
}

ncclResult_t ncclAlltoAll(const void* source, void* target, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  if (call.good()) call.needs(source, count * call.ranks());
  if (call.good()) call.needs(target, count * call.ranks());
  if (!call.good()) return call.error;
  call.exchange_all(call.label(Call::kAllToAll, count), source, count);
  call.exchange->then([target](const std::vector<Bytes>& parts) { concatenate(parts, target); });
  return call.done();
}

ncclResult_t ncclBroadcast(const void* source, void* target, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  Issue call(comm, stream, type);
  call.needs_peer(root);
  call.needs(target, count);
  if (call.good() && call.rank() == root) call.needs(source, count);
  if (!call.good()) return call.error;
  const Label label = call.label(Call::kBroadcast, count, root);
  for (int peer = 0; call.rank() == root && peer < comm->members->size(); ++peer) call.exchange->send(peer, label, source);
  call.exchange->receive(root, label);
  call.exchange->then([target](const std::vector<Bytes>& parts) { concatenate(parts, target); });
  return call.done();
}

}  // extern "C"
