// A world of ranks that are threads of one process: what most distributed tests run on.
//
// Nothing here hangs. A rank that waits longer than the deadline throws Error(kHang) naming every rank, its call and its
// layer. A rank that throws, or leaves while others need it, makes them throw PeerError.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace switchyard {

// This rank had to stop because of another one.
class PeerError : public Error {
 public:
  explicit PeerError(const std::string& sentence) : Error(ExitCode::kFailure, sentence) {}
};

struct ThreadGroup;

class ThreadWorld {
 public:
  // `deadline` bounds one wait, not the run.
  explicit ThreadWorld(int size, OutboxSizes sizes = {}, std::chrono::milliseconds deadline = std::chrono::seconds(60));

  // The communicator of a rank, to be used by that rank's thread only. Once per rank.
  std::unique_ptr<Communicator> communicator(int rank);
  // Tells the others that `rank` failed: they leave whatever they wait in with a PeerError that quotes the sentence.
  // The first failure counts.
  void fail(int rank, const std::string& sentence);

 private:
  std::shared_ptr<ThreadGroup> group_;
};

}  // namespace switchyard
