// The line between the watchdogs of all ranks: small datagrams (UDP, IPv4) beside the transport, which may be what hangs.
//
// Where all ranks are on one host it listens on the loopback device only. Every datagram carries a token that the ranks
// agree on at the start; others, and those of a wrong size, are ignored. Datagrams may be lost: whoever asks asks again.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "comm/watchdog_report.h"

namespace switchyard {

class WatchdogLine {
 public:
  enum class Kind : uint32_t {
    kAsk = 1,  // where are you?
    kState,    // here
    kTell,     // this hang is yours to tell
    kEnd,      // it has been told: leave
  };
  struct Message {
    Kind kind = Kind::kAsk;
    int rank = 0;  // of the sender
    RankState state;
  };

  // Learns where the peers listen. Collective.
  explicit WatchdogLine(Communicator& comm);
  ~WatchdogLine();
  WatchdogLine(const WatchdogLine&) = delete;
  WatchdogLine& operator=(const WatchdogLine&) = delete;

  // Readable when there may be a message; -1 where this host gives no sockets, and then nobody answers.
  int descriptor() const { return socket_; }
  void send(int peer, Kind kind, const RankState& state) const;
  // The next message of a peer; none where there is none. Does not wait.
  std::optional<Message> receive() const;

 private:
  struct Datagram {
    std::array<uint64_t, 2> token{};
    Kind kind = Kind::kAsk;
    int32_t rank = 0;
    RankState state;
  };
  std::optional<Message> read(const Datagram& datagram) const;
  void listen(bool one_host);

  int rank_;
  int size_;
  int socket_ = -1;
  std::array<uint64_t, 2> token_{};
  std::vector<std::vector<sockaddr_in>> peers_;  // [P] every address of each
};

}  // namespace switchyard
