// What only a device can get wrong: the order of its streams, without the host waiting between.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/cuda/comm/device_ranks.h"
#include "tests/cuda/comm/stamps.h"

namespace switchyard::cuda {
namespace {

constexpr OutboxSizes kSizes{1 << 14, 1 << 14};
constexpr int64_t kRows = 3;  // of a pair
constexpr int64_t kColumns = 5;

// Of the rows from `sender` to `receiver` in a transfer: the first element.
float first_of(int sender, int receiver, int transfer) {
  return static_cast<float>(transfer * 10000 + sender * 1000) + static_cast<float>(receiver) * static_cast<float>(kRows * kColumns);
}

class OnDevice {
 public:
  OnDevice(Gpu& gpu, int64_t rows) : buffer_(make_buffer(Dtype::kF32, {rows, kColumns}, gpu.memory())), gpu_(gpu), rows_(rows) {}
  Tensor tensor() const { return Tensor(buffer_.data(), Dtype::kF32, {rows_, kColumns}, Device::kCuda); }
  std::vector<float> on_host() const {
    std::vector<float> values(static_cast<size_t>(rows_ * kColumns));
    gpu_.finish();
    require(cudaMemcpyAsync(values.data(), buffer_.data(), values.size() * sizeof(float), cudaMemcpyDeviceToHost, gpu_.compute()), "cudaMemcpyAsync");
    gpu_.finish();
    return values;
  }

 private:
  Buffer buffer_;
  Gpu& gpu_;
  int64_t rows_;
};

// Rows of each peer, in its place; every other rank cuts them in two, which changes nothing.
std::vector<Segment> even_segments(const Communicator& comm, bool in_two) {
  std::vector<Segment> segments;
  for (int peer = 0; peer < comm.size(); ++peer) {
    if (in_two) segments.push_back({peer, peer * kRows + kRows, 0});
    segments.push_back({peer, peer * kRows, in_two ? 1 : kRows});
    if (in_two) segments.push_back({peer, peer * kRows + 1, kRows - 1});
  }
  return segments;
}

// Sends stamped rows to all, without waiting.
Event send_stamped(Communicator& comm, Gpu& gpu, int transfer, const Tensor& inbox, OutboxUse use = OutboxUse::kExchange) {
  const Tensor outbox = comm.outbox(use, Dtype::kF32, comm.size() * kRows, kColumns);
  stamp(gpu.compute(), outbox, first_of(comm.rank(), 0, transfer));
  const std::vector<Segment> send = even_segments(comm, comm.rank() % 2 == 0);
  const std::vector<Segment> receive = even_segments(comm, comm.rank() % 2 == 1);
  return comm.all_to_all({"dispatch", 3}, outbox, send, inbox, receive, {});
}

void expect_stamped(const std::vector<float>& found, const Communicator& comm, int transfer, float added) {
  for (int sender = 0; sender < comm.size(); ++sender) {
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      ASSERT_EQ(found[static_cast<size_t>(sender * kRows * kColumns + i)], first_of(sender, comm.rank(), transfer) + static_cast<float>(i) + added)
          << "transfer " << transfer << " from rank " << sender << " to " << comm.rank() << ", element " << i;
    }
  }
}

class Streams : public testing::TestWithParam<Way> {
 protected:
  // Runs a program on this rank's device under every schedule.
  template <class Program>
  void run(Program program) {
    on_every_rank([&] {
      Gpu gpu(device_of_rank());
      const auto once = [&] {
        const std::unique_ptr<Communicator> comm = make(GetParam(), gpu, kSizes);
        return program(*comm, gpu);
      };
      same_under_every_schedule(once, static_cast<uint64_t>(session()->rank()));
    });
  }
};

// Five transfers through two outboxes. What is packed is sent, although the outbox is packed anew at once; what is put into
// the compute stream after wait() sees the rows.
TEST_P(Streams, RowsAreSentAsPackedAndSeenAfterTheWait) {
  SWITCHYARD_NEEDS(GetParam());
  run([](Communicator& comm, Gpu& gpu) {
    constexpr int kTransfers = 5;
    std::vector<OnDevice> inboxes;
    std::vector<Event> events;
    for (int transfer = 0; transfer < kTransfers; ++transfer) inboxes.emplace_back(gpu, comm.size() * kRows);
    for (int transfer = 0; transfer < kTransfers; ++transfer)
      events.push_back(send_stamped(comm, gpu, transfer, inboxes[static_cast<size_t>(transfer)].tensor()));
    std::vector<std::vector<float>> found;
    for (size_t transfer = 0; transfer < events.size(); ++transfer) {
      comm.wait(events[transfer]);
      add(gpu.compute(), inboxes[transfer].tensor(), 0.5f);
    }
    for (size_t transfer = 0; transfer < events.size(); ++transfer) {
      found.push_back(inboxes[transfer].on_host());
      expect_stamped(found.back(), comm, static_cast<int>(transfer), 0.5f);
    }
    return found;
  });
}

// An inbox may be used again: what the compute stream was given before the next all_to_all sees the old rows.
TEST_P(Streams, AnInboxKeepsItsRowsForWorkGivenBefore) {
  SWITCHYARD_NEEDS(GetParam());
  run([](Communicator& comm, Gpu& gpu) {
    const OnDevice inbox(gpu, comm.size() * kRows), first(gpu, comm.size() * kRows), second(gpu, comm.size() * kRows);
    comm.wait(send_stamped(comm, gpu, 1, inbox.tensor()));
    copy(gpu.compute(), first.tensor(), inbox.tensor());
    const Event event = send_stamped(comm, gpu, 2, inbox.tensor(), OutboxUse::kBucket);
    comm.wait(event);
    copy(gpu.compute(), second.tensor(), inbox.tensor());
    comm.wait(send_stamped(comm, gpu, 3, inbox.tensor()));
    const std::vector<std::vector<float>> found = {first.on_host(), second.on_host(), inbox.on_host()};
    for (int transfer = 1; transfer <= 3; ++transfer) expect_stamped(found[static_cast<size_t>(transfer) - 1], comm, transfer, 0);
    return found;
  });
}

// Rank r brings (2 r + 1) % 4 rows, stamped just before, and adds to all just after.
TEST_P(Streams, GathersBetweenWorkOfTheComputeStream) {
  SWITCHYARD_NEEDS(GetParam());
  run([](Communicator& comm, Gpu& gpu) {
    std::vector<int64_t> rows;
    for (int rank = 0; rank < comm.size(); ++rank) rows.push_back((2 * rank + 1) % 4);
    const int64_t before = std::accumulate(rows.begin(), rows.begin() + comm.rank(), int64_t{0});
    const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    const int64_t own = rows[static_cast<size_t>(comm.rank())];
    std::vector<float> found;
    for (const bool in_place : {false, true}) {
      const OnDevice mine(gpu, own), all(gpu, total);
      const Tensor operand = in_place ? all.tensor().slice_rows(before, own) : mine.tensor();
      const int64_t sent = comm.bytes_sent();
      stamp(gpu.compute(), operand, first_of(comm.rank(), 0, 1));
      comm.all_gather({"publish", -1}, operand, all.tensor(), rows);
      stamp(gpu.compute(), mine.tensor(), -1);
      add(gpu.compute(), all.tensor(), 0.5f);
      EXPECT_EQ(comm.bytes_sent() - sent, operand.bytes() * (comm.size() - 1));
      found = all.on_host();
      size_t at = 0;
      for (int rank = 0; rank < comm.size(); ++rank) {
        for (int64_t i = 0; i < rows[static_cast<size_t>(rank)] * kColumns; ++i) EXPECT_EQ(found[at++], first_of(rank, 0, 1) + static_cast<float>(i) + 0.5f);
      }
    }
    const OnDevice nothing(gpu, 1);
    const std::vector<int64_t> no_rows(rows.size(), 0);
    comm.all_gather({"nothing", -1}, nothing.tensor().slice_rows(0, 0), nothing.tensor().slice_rows(0, 0), no_rows);
    return found;
  });
}

// The host's operations go on while transfers are under way, and neither waits for the other for ever.
TEST_P(Streams, HostOperationsMayComeBetween) {
  SWITCHYARD_NEEDS(GetParam());
  run([](Communicator& comm, Gpu& gpu) {
    const OnDevice inbox(gpu, comm.size() * kRows);
    std::vector<std::vector<float>> found;
    for (int transfer = 0; transfer < 3; ++transfer) {
      const Event event = send_stamped(comm, gpu, transfer, inbox.tensor());
      // Half of the ranks wait on the host for the others, which wait for their devices first.
      if (comm.rank() % 2 == 1) comm.wait(event);
      if (comm.rank() % 2 == 1) gpu.finish();
      int64_t sum = comm.rank();
      comm.host().reduce({"sum", -1}, {&sum, 1}, Reduction::kSum);
      EXPECT_EQ(sum, comm.size() * (comm.size() - 1) / 2);
      comm.wait(event);
      found.push_back(inbox.on_host());
      expect_stamped(found.back(), comm, transfer, 0);
    }
    return found;
  });
}

// Both outboxes of a use have its size, and the host's part of them too.
TEST_P(Streams, OutboxesOfEachUseHoldWhatTheyWereMadeFor) {
  SWITCHYARD_NEEDS(GetParam());
  on_every_rank([] {
    Gpu gpu(device_of_rank());
    constexpr OutboxSizes kUneven{400 * kColumns * 4, 100 * kColumns * 4};
    const std::unique_ptr<Communicator> comm = make(GetParam(), gpu, kUneven);
    for (int transfer = 0; transfer < 4; ++transfer) {
      for (const auto& [use, rows] : {std::pair{OutboxUse::kExchange, 400}, std::pair{OutboxUse::kBucket, 100}}) {
        const OnDevice inbox(gpu, rows);
        const Tensor outbox = comm->outbox(use, Dtype::kF32, rows, kColumns);
        stamp(gpu.compute(), outbox, static_cast<float>(transfer));
        const std::vector<Segment> own = {{comm->rank(), 0, rows}};
        comm->wait(comm->all_to_all({"dispatch", 3}, outbox, own, inbox.tensor(), own, {}));
        const std::vector<float> found = inbox.on_host();
        EXPECT_EQ(found.back(), static_cast<float>(transfer) + static_cast<float>(found.size() - 1));
        EXPECT_THROW(comm->outbox(use, Dtype::kF32, rows + 1, kColumns), InternalError);
      }
    }
  });
}

size_t free_memory() {
  size_t available = 0, total = 0;
  require(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  return available;
}

TEST_P(Streams, AWarmStepTakesNoMemoryOfTheDevice) {
  SWITCHYARD_NEEDS(GetParam());
  if (devices() < session()->size()) GTEST_SKIP() << "other ranks take memory of the same device";
  on_every_rank([] {
    Gpu gpu(device_of_rank());
    const std::unique_ptr<Communicator> comm = make(GetParam(), gpu, kSizes);
    const OnDevice inbox(gpu, comm->size() * kRows);
    const auto step = [&] {
      for (const OutboxUse use : {OutboxUse::kExchange, OutboxUse::kBucket, OutboxUse::kExchange}) comm->wait(send_stamped(*comm, gpu, 1, inbox.tensor(), use));
      gpu.finish();
    };
    for (int warm_up = 0; warm_up < 4; ++warm_up) step();
    const size_t before = free_memory();
    for (int repeat = 0; repeat < 4; ++repeat) step();
    EXPECT_EQ(free_memory(), before);
  });
}

std::string label_of(const testing::TestParamInfo<Way>& way) { return name(way.param); }
INSTANTIATE_TEST_SUITE_P(Ways, Streams, testing::Values(Way::kNccl, Way::kStaged), label_of);

// Rank 0 sends nothing. The others are told, by the deadline, what they wait for; then nothing more is sent.
TEST(NcclHang, OfAPeerThatNeverComesIsASentence) {
  SWITCHYARD_NEEDS(Way::kNccl);
  if (session()->size() == 1) GTEST_SKIP() << "one rank has no peer to wait for";
  on_every_rank([] {
    Gpu gpu(device_of_rank());
    const OnDevice inbox(gpu, kRows);
    const std::unique_ptr<Communicator> comm = make(Way::kNccl, gpu, kSizes, 4);
    const std::unique_ptr<Communicator> ranks = make_mpi_communicator(session()->world(), {});
    if (comm->rank() > 0) {
      const std::vector<Segment> receive = {{0, 0, kRows}};
      const auto expect_rows = [&] {
        return comm->all_to_all({"dispatch", 3}, comm->outbox(OutboxUse::kExchange, Dtype::kF32, 0, kColumns), {}, inbox.tensor(), receive, {});
      };
      std::string sentence;
      try {
        comm->wait(expect_rows());
        gpu.finish();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kHang);
        sentence = error.what();
      }
      for (const std::string& part : {"rank " + std::to_string(comm->rank()) + " of ", std::string("4 seconds"), std::string("'dispatch' of layer 3")}) {
        EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
      }
      gpu.finish();  // the device is free again
      EXPECT_THROW(expect_rows(), Error);
    }
    ranks->barrier({"end", -1});
  });
}

}  // namespace
}  // namespace switchyard::cuda
