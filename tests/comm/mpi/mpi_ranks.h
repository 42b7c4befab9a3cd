// What the tests between processes share: the session, and things that only some of them need.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "comm/link_file.h"
#include "comm/mpi.h"
#include "comm/mpi_session.h"

namespace switchyard {

// The one session of this program, made by main.
inline const MpiSession*& session() {
  static const MpiSession* the_session = nullptr;
  return the_session;
}

// Runs a body that all ranks run. A rank that throws would leave the others waiting: it ends the job.
template <class Body>
void on_every_rank(Body body) {
  try {
    body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d failed in %s: %s\n", session()->rank(), testing::UnitTest::GetInstance()->current_test_info()->name(), error.what());
    session()->abort(ExitCode::kFailure);
  }
}

// Room for more rows than int counts, of which few take memory.
class Expanse {
 public:
  explicit Expanse(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(data_ != MAP_FAILED, "the test has no address space");
  }
  ~Expanse() { munmap(data_, bytes_); }
  Expanse(const Expanse&) = delete;
  Expanse& operator=(const Expanse&) = delete;
  void* data() const { return data_; }

 private:
  size_t bytes_;
  void* data_;
};

// Prints failures only, and says which rank they are of. GoogleTest holds a lock while it calls OnTestPartResult, so that the
// test's name must be known by then.
class OtherRanks : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override { test_ = std::string(test.test_suite_name()) + "." + test.name(); }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "rank {}: {} failed at {}:{}\n{}\n", session()->rank(), test_, result.file_name() ? result.file_name() : "", result.line_number(),
               result.message());
  }
  std::string test_;
};

// What main does. Rank 0 reports, the others print only what failed on them; all answer with the same.
inline int run_tests_on_every_rank() {
  const MpiSession the_session;
  session() = &the_session;
  if (session()->rank() != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new OtherRanks);
  }
  int64_t failed = RUN_ALL_TESTS();
  make_mpi_communicator(session()->world(), {})->reduce({"result", -1}, {&failed, 1}, Reduction::kMax);
  return static_cast<int>(failed);
}

class LinkFileOnDisk {
 public:
  explicit LinkFileOnDisk(const LinkFile& file) {
    if (session()->rank() == 0) write_link_file(path, file);
  }
  ~LinkFileOnDisk() {
    if (session()->rank() == 0) std::filesystem::remove(path);
  }
  const std::string path = testing::TempDir() + "comm_mpi_link_" + std::to_string(getpid()) + ".json";
};

}  // namespace switchyard
