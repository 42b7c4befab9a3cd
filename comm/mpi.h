// Ranks of mpirun: a transport on any MPI library that speaks MPI 3.
//
// A transfer is one message per pair of ranks, in units of a committed row datatype, so that counts are rows; runs of
// rows that are not neighbours travel through an indexed datatype with 64-bit places, without a staging copy. Messages
// above 1 GiB are cut, so that no count of MPI, which is an int, is ever too small. A rank's own rows are copied. Every
// error of MPI becomes an Error that names function, rank, call and layer.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/mpi_api.h"

namespace switchyard {

inline constexpr int64_t kLargestMessage = int64_t{1} << 30;

// In which order the messages of an all_to_all leave.
enum class MpiAlgorithm : uint8_t {
  kLinear,    // all at once
  kPairwise,  // in step k to rank + k, from rank - k, when step k - 1 is through; all that is left before anything else
};

struct MpiOptions {
  MpiAlgorithm algorithm = MpiAlgorithm::kLinear;
  int64_t largest_message = kLargestMessage;       // bytes, of more than one row
  int64_t largest_count = (int64_t{1} << 31) - 1;  // rows that one call of MPI counts; tests make both small
};

// A group of the ranks of `parent`, on a duplicate of it. Collective.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm parent, OutboxSizes sizes, const MpiOptions& options = {});

// Throws Error(kFailure) unless status is MPI_SUCCESS.
void check_mpi(int status, const char* function, int rank, Call call);

// Owns an MPI communicator whose errors return.
class MpiComm {
 public:
  explicit MpiComm(MPI_Comm owned);
  // Frees it; collective. Not where an exception is on its way: the peers may never come.
  ~MpiComm();
  MpiComm(const MpiComm&) = delete;
  MpiComm& operator=(const MpiComm&) = delete;

  MPI_Comm get() const { return comm_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

 private:
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace switchyard
