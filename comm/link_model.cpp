#include "comm/link_model.h"

#include <algorithm>

#include "src/base/error.h"

namespace switchyard {
namespace {

int64_t bytes_of(std::span<const int64_t> bytes, int ranks, int sender, int receiver) {
  return bytes[static_cast<size_t>(sender) * static_cast<size_t>(ranks) + static_cast<size_t>(receiver)];
}

double leaving_seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes, int sender) {
  const int ranks = static_cast<int>(hosts.size());
  double sum = 0;
  for (int receiver = 0; receiver < ranks; ++receiver) sum += message_seconds(model, hosts, sender, receiver, bytes_of(bytes, ranks, sender, receiver));
  return sum;
}

}  // namespace

double message_seconds(const LinkModel& model, std::span<const int> hosts, int sender, int receiver, int64_t bytes) {
  if (sender == receiver || bytes == 0) return 0;
  return model.link(hosts[static_cast<size_t>(sender)], hosts[static_cast<size_t>(receiver)]).seconds(bytes);
}

double arrival_seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes, int receiver) {
  check(bytes.size() == hosts.size() * hosts.size(), "a count matrix is not one number for each pair of ranks");
  const int ranks = static_cast<int>(hosts.size());
  double entering = 0;
  double last_sender = 0;
  for (int sender = 0; sender < ranks; ++sender) {
    const double message = message_seconds(model, hosts, sender, receiver, bytes_of(bytes, ranks, sender, receiver));
    entering += message;
    if (message > 0) last_sender = std::max(last_sender, leaving_seconds(model, hosts, bytes, sender));
  }
  return std::max(entering, last_sender);
}

double seconds(const LinkModel& model, std::span<const int> hosts, std::span<const int64_t> bytes) {
  double last = 0;
  for (int receiver = 0; receiver < static_cast<int>(hosts.size()); ++receiver) last = std::max(last, arrival_seconds(model, hosts, bytes, receiver));
  return last;
}

}  // namespace switchyard
