// One way to exchange, as the sweep drives it: a transport of comm/, or MPI's own MPI_Alltoallv.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.h"
#include "comm/mpi_api.h"
#include "src/profile/traffic.h"

namespace switchyard {

class Exchanger {
 public:
  virtual ~Exchanger() = default;

  // Takes memory for this traffic, which the following exchanges carry. Throws Error(kUsage) where it has no room.
  virtual void prepare(const Traffic& traffic) = 0;
  // Where the bytes to be sent go, those for rank 0 first. Waits until the exchange before last is over at the peers, if
  // its memory is used again. Collective.
  virtual uint32_t* open() = 0;
  // What `open` gave, filled, to all ranks; returns when everything has arrived here. Collective.
  virtual void exchange() = 0;
  // What arrived, from rank 0 first.
  virtual uint32_t* inbox() = 0;
};

// `communicator` outlives it, and has room for the traffic in its outbox of exchanges.
std::unique_ptr<Exchanger> make_exchanger(Communicator& communicator);
// MPI_Alltoallv of bytes, as osu_alltoallv calls it.
std::unique_ptr<Exchanger> make_alltoallv_exchanger(MPI_Comm comm);

// Bytes that the largest outbox of an exchange of this traffic takes.
int64_t outbox_bytes(const Traffic& traffic);

}  // namespace switchyard
