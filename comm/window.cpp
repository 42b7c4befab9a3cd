#include "comm/window.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "comm/transfers.h"
#include "src/base/checked.h"

namespace switchyard {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kMostRuns = 32768;             // of one transfer, after joining neighbours
constexpr int64_t kKeptFree = int64_t{8} << 20;  // per rank: MPI's own shared memory grows into it
constexpr int kSpins = 2000;                     // some ten microseconds
constexpr int kYieldsPerProbe = 64;
constexpr Call kStart{"start", -1};

// A flag that other processes read. On a cache line of its own.
struct alignas(64) Flag {
  std::atomic<uint64_t> ticket{0};
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "flags are shared between processes");

// The head of a rank's part. Behind it, per box, a Table; then the boxes.
struct Head {
  std::array<Flag, kBoxes> published;
  std::array<Flag, kBoxes> pulled;
};

// Which rows of an outbox go where, for the peers: row bytes, first run of each peer and the end, runs.
struct Table {
  int64_t* row_bytes;
  int64_t* first;  // [P + 1]
  Run* runs;       // [kMostRuns]
};

int64_t head_bytes() { return round_up(static_cast<int64_t>(sizeof(Head)), kPage); }
int64_t table_bytes(int ranks) { return round_up((ranks + 2) * 8 + kMostRuns * static_cast<int64_t>(sizeof(Run)), kPage); }

// One rank's part of the window.
struct Part {
  char* base = nullptr;
  Head& head() const { return *reinterpret_cast<Head*>(base); }
  Table table(int box, int ranks) const {
    int64_t* words = reinterpret_cast<int64_t*>(base + head_bytes() + box * table_bytes(ranks));
    return {words, words + 1, reinterpret_cast<Run*>(words + ranks + 2)};
  }
  char* box(int box, int ranks, OutboxSizes sizes) const {
    char* place = base + head_bytes() + kBoxes * table_bytes(ranks);
    for (int before = 0; before < box; ++before) place += box_bytes(sizes, before);
    return place;
  }
};

// MPI aligns parts to 8 bytes only. Every process maps the memory at a page, so all find the same place.
char* next_page(void* place) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  return static_cast<char*>(place) + (static_cast<uintptr_t>(kPage) - address % kPage) % kPage;
}

// The shared memory: one part per rank, one epoch for life.
class Window {
 public:
  Window(MPI_Comm comm, int rank, int ranks, OutboxSizes sizes) : parts_(static_cast<size_t>(ranks)) {
    MPI_Info info = MPI_INFO_NULL;
    check_mpi(MPI_Info_create(&info), "MPI_Info_create", rank, kStart);
    MPI_Info_set(info, "alloc_shared_noncontig", "true");  // each part on pages of its own, near its rank
    void* base = nullptr;
    const int64_t bytes = window_bytes(sizes, ranks);
    const int status = MPI_Win_allocate_shared(bytes, 1, info, comm, &base, &window_);
    MPI_Info_free(&info);
    check_mpi(status, "MPI_Win_allocate_shared", rank, kStart);
    for (int peer = 0; peer < ranks; ++peer) {
      MPI_Aint size = 0;
      int unit = 0;
      void* part = nullptr;
      check_mpi(MPI_Win_shared_query(window_, peer, &size, &unit, &part), "MPI_Win_shared_query", rank, kStart);
      parts_[static_cast<size_t>(peer)].base = next_page(part);
    }
    check_mpi(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_), "MPI_Win_lock_all", rank, kStart);
    // The first touch takes the memory now, while there is room, and places it near this rank.
    for (int64_t page = 0; page < bytes; page += kPage) *static_cast<volatile char*>(static_cast<char*>(base) + page) = 0;
    new (part(rank).base) Head();
    check_mpi(MPI_Win_sync(window_), "MPI_Win_sync", rank, kStart);
    check_mpi(MPI_Barrier(comm), "MPI_Barrier", rank, kStart);
  }
  ~Window() {
    if (std::uncaught_exceptions() > 0) return;  // collective, and the peers may never come
    MPI_Win_unlock_all(window_);
    MPI_Win_free(&window_);
  }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  const Part& part(int rank) const { return parts_[static_cast<size_t>(rank)]; }

 private:
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<Part> parts_;
};

std::array<void*, kBoxes> boxes_of(const Part& part, int ranks, OutboxSizes sizes) {
  std::array<void*, kBoxes> boxes{};
  for (int box = 0; box < kBoxes; ++box) boxes[static_cast<size_t>(box)] = part.box(box, ranks, sizes);
  return boxes;
}

class WindowCommunicator final : public Communicator {
 public:
  WindowCommunicator(MPI_Comm owned, OutboxSizes sizes, WindowOptions options, bool crowded)
      : comm_(owned),
        options_(std::move(options)),
        sizes_(sizes),
        spins_(crowded ? 0 : kSpins),
        control_(make_mpi_communicator(owned, {})),
        window_(owned, comm_.rank(), comm_.size(), sizes),
        me_(window_.part(comm_.rank())),
        transfers_(comm_.rank(), comm_.size(), sizes, boxes_of(me_, comm_.size(), sizes)) {}

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_.get(), color, key, &part), "MPI_Comm_split", rank(), {"split", -1});
    const MpiComm group(part);
    return make_window_communicator(group.get(), sizes_, options_).communicator;
  }

  void barrier(Call call) override { control_->barrier(call); }
  void broadcast(Call call, Tensor tensor, int root) override { control_->broadcast(call, tensor, root); }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override { control_->all_gather(call, mine, all, rows); }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override { control_->reduce(call, values, reduction); }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    Transfer& last = transfers_.last(use);
    if (last.pending) complete(last);
    const size_t box = static_cast<size_t>(last.box);
    for (int peer = 0; peer < size(); ++peer) wait_for(window_.part(peer).head().pulled[box], last.ticket);
    return transfers_.hand_out(use, dtype, rows, columns);
  }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override {
    if (Transfer* transfer = transfers_.find(event)) complete(*transfer);
  }

  [[noreturn]] void abort(ExitCode code) override {
    control_->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return bytes_sent_ + control_->bytes_sent(); }

 private:
  void wait_for(const Flag& flag, uint64_t ticket) const;
  void publish(const Transfer& transfer);
  // Pulls the rows of a transfer out of the peers' outboxes.
  void complete(Transfer& transfer);

  MpiComm comm_;
  WindowOptions options_;
  OutboxSizes sizes_;
  int spins_;
  std::unique_ptr<Communicator> control_;
  Window window_;
  Part me_;
  Transfers transfers_;
  int64_t bytes_sent_ = 0;
};

void WindowCommunicator::wait_for(const Flag& flag, uint64_t ticket) const {
  for (int spin = 0; spin < spins_; ++spin) {
    if (flag.ticket.load(std::memory_order_acquire) >= ticket) return;
    __builtin_ia32_pause();
  }
  for (int yield = 1; flag.ticket.load(std::memory_order_acquire) < ticket; ++yield) {
    sched_yield();
    if (yield % kYieldsPerProbe != 0) continue;
    // MPI moves only inside its calls: a message of ours that a peer waits for may still be on its way.
    int found = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_.get(), &found, MPI_STATUS_IGNORE);
    yield = 0;
  }
}

Event WindowCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive,
                                     Event after) {
  wait(after);
  Transfer& transfer = transfers_.begin(call, outbox, send, inbox, receive);
  bytes_sent_ += transfer.bytes_to_others(rank(), size());
  publish(transfer);
  return Event{transfer.ticket};
}

void WindowCommunicator::publish(const Transfer& transfer) {
  const Table table = me_.table(transfer.box, size());
  int64_t used = 0;
  for (int peer = 0; peer < size(); ++peer) {
    const std::span<const Run> runs = transfer.send.runs(peer);
    const int64_t count = static_cast<int64_t>(runs.size());
    if (used + count > kMostRuns) {
      throw Error(ExitCode::kUsage, fmt::format("rank {} sends more than {} runs of rows in '{}' of layer {}, for which the shared window has no room: use "
                                                "parallel.transport MPI",
                                                rank(), kMostRuns, transfer.call.name, transfer.call.layer));
    }
    table.first[peer] = used;
    std::copy(runs.begin(), runs.end(), table.runs + used);
    used += count;
  }
  table.first[size()] = used;
  *table.row_bytes = transfer.row_bytes;
  me_.head().published[static_cast<size_t>(transfer.box)].ticket.store(transfer.ticket, std::memory_order_release);
}

void WindowCommunicator::complete(Transfer& transfer) {
  const size_t box = static_cast<size_t>(transfer.box);
  for (int step = 0; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const Part& theirs = window_.part(peer);
    wait_for(theirs.head().published[box], transfer.ticket);
    const Table table = theirs.table(transfer.box, size());
    const std::span<const Run> runs(table.runs + table.first[rank()], static_cast<size_t>(table.first[rank() + 1] - table.first[rank()]));
    int64_t rows = 0;
    for (const Run& run : runs) rows += run.rows;
    if (rows != transfer.receive.rows(peer) || *table.row_bytes != transfer.row_bytes) {
      throw InternalError(fmt::format("rank {} sends {} rows of {} bytes in all_to_all '{}' of layer {} to rank {}, which expects {} rows of {} bytes", peer,
                                      rows, *table.row_bytes, transfer.call.name, transfer.call.layer, rank(), transfer.receive.rows(peer),
                                      transfer.row_bytes));
    }
    copy_runs(runs, theirs.box(transfer.box, size(), sizes_), transfer.receive.runs(peer), transfer.inbox_bytes(), transfer.row_bytes);
  }
  transfer.pending = false;
  me_.head().pulled[box].ticket.store(transfer.ticket, std::memory_order_release);
}

// Why there can be no window, or an empty string; the same on every rank.
std::string obstacle(const MpiComm& comm, const Host& host, OutboxSizes sizes, const std::function<int64_t()>& room) {
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm.get(), MPI_COMM_TYPE_SHARED, comm.rank(), MPI_INFO_NULL, &node), "MPI_Comm_split_type", comm.rank(), kStart);
  const MpiComm on_host(node);
  const int64_t needed = checked_multiply(checked_add(window_bytes(sizes, comm.size()), kKeptFree), host.ranks);
  // Only the first rank of a host asks: its answer stands for all of that host.
  const int64_t spare = on_host.rank() == 0 ? room() - needed : std::numeric_limits<int64_t>::max();
  std::array<int64_t, 6> least = {spare, host.ranks, sizes.exchange_bytes, -sizes.exchange_bytes, sizes.bucket_bytes, -sizes.bucket_bytes};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, least.data(), 6, MPI_INT64_T, MPI_MIN, comm.get()), "MPI_Allreduce", comm.rank(), kStart);
  check(least[2] == -least[3] && least[4] == -least[5], "the ranks of a window were given different outbox sizes");
  if (least[2] == 0 && least[4] == 0) return "transport MPI instead of WINDOW: a window does not grow, and no outbox sizes were given";
  if (least[1] < comm.size()) return "transport MPI instead of WINDOW: the ranks are on several hosts, which share no memory";
  if (least[0] >= 0) return "";
  return fmt::format(
      "transport MPI instead of WINDOW: shared memory (/dev/shm) has {} MiB free where {} ranks need {} MiB; enlarge it (docker run --shm-size) for more "
      "speed",
      (least[0] + needed) >> 20, comm.size(), (needed >> 20) + 1);
}

}  // namespace

int64_t window_bytes(OutboxSizes sizes, int ranks) {
  int64_t bytes = kPage + head_bytes() + kBoxes * table_bytes(ranks);  // the first page is lost to alignment
  for (int box = 0; box < kBoxes; ++box) bytes = checked_add(bytes, box_bytes(sizes, box));
  return bytes;
}

WindowOrMpi make_window_communicator(MPI_Comm parent, OutboxSizes sizes, const WindowOptions& options) {
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup", 0, kStart);
  const MpiComm comm(copy);
  const Host host = find_host(comm.get());
  std::string reason = obstacle(comm, host, sizes, options.room);
  if (!reason.empty()) return {make_mpi_communicator(comm.get(), sizes), std::move(reason)};
  check_mpi(MPI_Comm_dup(comm.get(), &copy), "MPI_Comm_dup", comm.rank(), kStart);
  return {std::make_unique<WindowCommunicator>(copy, sizes, options, host.crowded()), ""};
}

}  // namespace switchyard
