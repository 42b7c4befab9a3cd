#include "comm/nccl/nccl_comm.h"

#include <fmt/format.h>

#include <exception>
#include <thread>

#include "comm/agree.h"

namespace switchyard::cuda {
namespace {

constexpr Call kConnect{"connect", -1};

}  // namespace

void require(ncclResult_t status, const char* function, Call call) {
  if (status == ncclSuccess || status == ncclInProgress) [[likely]]
    return;
  throw Error(ExitCode::kFailure,
              fmt::format("{} failed in '{}' of layer {}: {}: {}", function, call.name, call.layer, ncclGetErrorString(status), ncclGetLastError(nullptr)));
}

NcclComm::NcclComm(Communicator& host, Gpu& gpu, double deadline) : gpu_(gpu), rank_(host.rank()), size_(host.size()), deadline_(deadline), call_(kConnect) {
  ncclUniqueId id{};
  agree_on(host, kConnect, [&] {
    if (rank_ == 0) require(ncclGetUniqueId(&id), "ncclGetUniqueId", kConnect);
  });
  static_assert(sizeof id % sizeof(int32_t) == 0);
  host.broadcast(kConnect, Tensor(&id, Dtype::kI32, {static_cast<int64_t>(sizeof id / sizeof(int32_t))}), 0);
  agree_on(host, kConnect, [&] { connect(id); });
  gpu_.add(*this);
}

void NcclComm::connect(const ncclUniqueId& id) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t status = ncclCommInitRankConfig(&comm, size_, id, rank_, &config);
  comm_.reset(comm);
  require(status, "ncclCommInitRankConfig", kConnect);
  if (const std::optional<Error> error = settle(kConnect)) throw Error(*error);
}

NcclComm::~NcclComm() {
  gpu_.remove(*this);
  if (comm_ == nullptr || std::uncaught_exceptions() > 0) return;
  const ncclResult_t status = ncclCommFinalize(comm_.get());
  if (status != ncclSuccess && status != ncclInProgress) return;
  if (!settle({"disconnect", -1})) static_cast<void>(ncclCommDestroy(comm_.release()));
}

void NcclComm::begin(Call call) {
  if (comm_ == nullptr) throw Error(ExitCode::kFailure, "NCCL was given up after an earlier error");
  require(ncclGroupStart(), "ncclGroupStart", call);
}

void NcclComm::end(Call call) {
  require(ncclGroupEnd(), "ncclGroupEnd", call);
  if (const std::optional<Error> error = settle(call)) {
    gpu_.abandon();
    throw Error(*error);
  }
  call_ = call;
  last_.record(gpu_.transfers());
}

std::optional<Error> NcclComm::settle(Call call) const {
  Patience patience;
  while (true) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_.get(), &state);
    if (asked != ncclSuccess) state = asked;
    if (state == ncclSuccess) return std::nullopt;
    if (std::optional<Error> error = failure(state, call)) return error;
    if (std::optional<Error> error = hang(patience.seconds(), call)) return error;
    std::this_thread::yield();
  }
}

std::optional<Error> NcclComm::look(double seconds) {
  if (comm_ == nullptr || last_.reached()) return std::nullopt;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_.get(), &state);
  if (std::optional<Error> error = failure(asked != ncclSuccess ? asked : state, call_)) return error;
  return hang(seconds, call_);
}

std::optional<Error> NcclComm::failure(ncclResult_t state, Call call) const {
  if (state == ncclSuccess || state == ncclInProgress) return std::nullopt;
  return Error(ExitCode::kFailure, fmt::format("NCCL failed on rank {} in '{}' of layer {}, or in a transfer before it: {}: {}", rank_, call.name, call.layer,
                                               ncclGetErrorString(state), ncclGetLastError(comm_.get())));
}

std::optional<Error> NcclComm::hang(double seconds, Call call) const {
  if (deadline_ <= 0 || seconds < deadline_) return std::nullopt;
  return Error(ExitCode::kHang, fmt::format("rank {} of {} has waited {:g} seconds for the other ranks in '{}' of layer {}, or in a transfer before it: one "
                                            "of them has stopped, or issues other operations; see which prints nothing, run with --check-collectives",
                                            rank_, size_, deadline_, call.name, call.layer));
}

}  // namespace switchyard::cuda
