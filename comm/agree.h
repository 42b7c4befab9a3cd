// Agreement: an error of one rank becomes the same error of all.
#pragma once

#include <optional>

#include "comm/communicator.h"

namespace switchyard {

// The error on which the ranks agreed. Its code is the failing rank's; from agree() its sentence begins with "rank r: " where there is
// more than one rank. Every rank throws it, so one of them (rank 0) prints it for all.
class AgreedError : public Error {
 public:
  AgreedError(ExitCode code, const std::string& sentence, int rank) : Error(code, sentence), rank_(rank) {}
  int rank() const { return rank_; }  // the lowest that failed

 private:
  int rank_;
};

// Ends a phase in which ranks may have failed on their own: inside it a failed rank goes on with every collective and
// keeps its first error for here. Collective. Returns where no rank brings an error, else throws AgreedError on all with
// the error of the lowest failing rank.
void agree(Communicator& comm, const std::optional<Error>& mine, Call call);

// Runs `phase` and agrees on its outcome. For phases without collectives of their own.
template <class Phase>
void agree_on(Communicator& comm, Call call, Phase phase) {
  std::optional<Error> mine;
  try {
    phase();
  } catch (const Error& error) {
    mine = error;
  } catch (const std::exception& error) {
    mine = Error(ExitCode::kFailure, error.what());
  }
  agree(comm, mine, call);
}

}  // namespace switchyard
