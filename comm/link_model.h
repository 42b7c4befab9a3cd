// LinkModel: what a message costs, and what an all-to-all of such messages costs. Pure functions.
//
// A message of b > 0 bytes takes alpha + b / bytes_per_second (Hockney), with one pair of numbers for ranks of one host
// and one for ranks of different hosts. Every rank has one way out and one way in, each of which carries one byte at a
// time: what leaves a rank takes the sum of its messages, and so does what enters it. Incast therefore shows, and bytes
// of both classes add up (measured on 8 to 64 H100, the sum fits within 1.3 %, the larger of the two within 12 %:
// Megatron-Core report, table 7). Rows that a rank sends to itself cost nothing.
#pragma once

#include <cstdint>
#include <span>

namespace switchyard {

struct Link {
  double alpha = 0;                // seconds per message
  double bytes_per_second = 1e12;  // beta

  double seconds(int64_t bytes) const { return alpha + static_cast<double>(bytes) / bytes_per_second; }
};

struct LinkModel {
  Link within_host;
  Link between_hosts;

  const Link& link(int host, int other) const { return host == other ? within_host : between_hosts; }
};

// Of one message: 0 without bytes, and from a rank to itself. `hosts` [P] is the host of each rank.
double message_seconds(const LinkModel& model, std::span<const int> hosts, int sender, int receiver, int64_t bytes);

// Of one all_to_all that every rank starts at once on idle links: until the last row has arrived. `bytes` [P, P] is what
// each sender has for each receiver. A rank has everything when its way in has carried the sum of its messages, and not
// before each of its senders' ways out is through with theirs. So it is the largest sum of a row or a column.
// Throws InternalError where `bytes` is not P x P.
double seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes);

// The same for one receiver.
double arrival_seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes, int receiver);

}  // namespace switchyard
