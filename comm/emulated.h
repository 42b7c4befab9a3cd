// An emulated link: a communicator whose transfers take as long as a LinkModel says, with the processor free meanwhile.
//
// So a machine without a network can show what one costs, and overlap can be tested on two cores. Bytes travel through
// the communicator that is wrapped; an event happens when its rows are here and their time is over. Every rank has one
// way out and one way in, which serve transfers in the order of issue: what is issued back to back queues up, and incast
// shows. With idle links and all ranks together a transfer takes seconds() of link_model.h.
//
// A sender tells its receivers when its way out began with a transfer and when it was through: 16 bytes that travel
// beside the rows, over a communicator of their own. All ranks read one clock, so they must be on one machine.
//
// Other collectives: all_gather takes the time of sending one's rows to every other rank, broadcast, reduce and barrier
// that of a tree of ceil(log2 P) messages one after another, of the slowest class among the ranks. They wait for the
// links, and the caller for them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/link_model.h"

namespace switchyard {

// The clock of all ranks. Tests bring one of their own.
class LinkClock {
 public:
  virtual ~LinkClock() = default;
  virtual int64_t now_ns() = 0;
  // Returns at once where `ns` is past. Gives the processor away.
  virtual void sleep_until(int64_t ns) = 0;
};

// CLOCK_MONOTONIC, which the processes of one machine share. Sleeps, and yields in the last tenth of a millisecond.
std::unique_ptr<LinkClock> make_monotonic_clock();

struct EmulatedLink {
  LinkModel model;
  std::vector<int> hosts;  // [P] the host of each rank
};

// `stamps` has the same ranks as `inner` and outboxes of at least 16 bytes.
std::unique_ptr<Communicator> make_emulated_communicator(std::unique_ptr<Communicator> inner, std::unique_ptr<Communicator> stamps, EmulatedLink link,
                                                         std::shared_ptr<LinkClock> clock);

}  // namespace switchyard
