// Runs the body of a distributed test on ranks that are threads of this process.
//
//   run_ranks(4, [](Communicator& comm) { ... });
//
// Every collective is checked against its peers first (comm/checked.h), every wait has a deadline. The first rank that
// throws ends the others; its error is thrown again here, with its rank in the sentence.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/checked.h"
#include "comm/thread.h"

namespace switchyard {

struct RankOptions {
  OutboxSizes sizes = {};                                         // 0: outboxes grow
  std::chrono::milliseconds deadline = std::chrono::seconds(60);  // of one wait
  bool checked = true;
};

// How a rank ended, where it threw.
struct RankFailure {
  int rank = 0;
  ExitCode code = ExitCode::kFailure;
  std::string sentence;
  bool because_of_peer = false;  // it left because another rank failed
};

using RankBody = std::function<void(Communicator&)>;

// Runs body on `size` ranks; answers with each rank's failure, none where it returned.
inline std::vector<std::optional<RankFailure>> failures_of_ranks(int size, const RankBody& body, const RankOptions& options = {}) {
  ThreadWorld world(size, options.sizes, options.deadline);
  std::vector<std::optional<RankFailure>> failures(static_cast<size_t>(size));
  const auto run = [&](int rank) {
    std::unique_ptr<Communicator> comm = world.communicator(rank);
    if (options.checked) comm = make_checked_communicator(std::move(comm));
    std::optional<RankFailure>& failure = failures[static_cast<size_t>(rank)];
    try {
      body(*comm);
    } catch (const PeerError& error) {
      failure = {rank, error.code(), error.what(), true};
    } catch (const Error& error) {
      failure = {rank, error.code(), error.what(), false};
    } catch (const std::exception& error) {
      failure = {rank, ExitCode::kFailure, error.what(), false};
    }
    if (failure) world.fail(rank, failure->sentence);
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  return failures;
}

// As above; throws the lowest rank's own failure, or, if there are only consequences, the lowest of those.
inline void run_ranks(int size, const RankBody& body, const RankOptions& options = {}) {
  const auto failures = failures_of_ranks(size, body, options);
  for (const bool consequences : {false, true}) {
    for (const auto& failure : failures) {
      if (failure && failure->because_of_peer == consequences) throw Error(failure->code, "rank " + std::to_string(failure->rank) + ": " + failure->sentence);
    }
  }
}

}  // namespace switchyard
