#include "comm/watchdog_line.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string_view>

namespace switchyard {
namespace {

constexpr size_t kMostAddresses = 6;
constexpr Call kStart{"watchdog", -1};

// Where a rank listens. Travels as I32 words.
struct Place {
  uint64_t host = 0;                                 // a hash of its name
  std::array<uint32_t, kMostAddresses> addresses{};  // network order; 0: none
  uint32_t port = 0;                                 // network order; 0: nowhere
  uint32_t unused = 0;
};
static_assert(sizeof(Place) == 40);

// all[r] = `mine` of rank r. T is plain, of whole I32 words.
template <class T>
std::vector<T> gather(Communicator& comm, T mine) {
  static_assert(sizeof(T) % 4 == 0);
  const int64_t words = sizeof(T) / 4;
  std::vector<T> all(static_cast<size_t>(comm.size()));
  const std::vector<int64_t> rows(all.size(), 1);
  comm.all_gather(kStart, Tensor(&mine, Dtype::kI32, {1, words}), Tensor(all.data(), Dtype::kI32, {comm.size(), words}), rows);
  return all;
}

// FNV-1a.
uint64_t hash_of_host() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : std::string_view(name)) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  return hash;
}

void find_addresses(Place& place) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;
  size_t found = 0;
  for (const ifaddrs* entry = list; entry != nullptr && found < kMostAddresses; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    if ((entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
    sockaddr_in address{};
    std::memcpy(&address, entry->ifa_addr, sizeof address);
    place.addresses[found++] = address.sin_addr.s_addr;
  }
  freeifaddrs(list);
}

sockaddr_in socket_address(uint32_t address, uint32_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = address;
  result.sin_port = static_cast<in_port_t>(port);
  return result;
}

// A text from outside: ends, and holds nothing that a terminal would obey.
template <size_t size>
void make_harmless(char (&text)[size]) {
  text[size - 1] = 0;
  for (char& letter : text) {
    if (letter != 0 && (letter < ' ' || letter > '~')) letter = '?';
  }
}

}  // namespace

WatchdogLine::WatchdogLine(Communicator& comm) : rank_(comm.rank()), size_(comm.size()), peers_(static_cast<size_t>(comm.size())) {
  Place mine;
  mine.host = hash_of_host();
  const std::vector<uint64_t> hosts = gather(comm, mine.host);
  const bool one_host = std::all_of(hosts.begin(), hosts.end(), [&](uint64_t host) { return host == mine.host; });
  listen(one_host);
  if (socket_ >= 0) {
    sockaddr_in bound{};
    socklen_t length = sizeof bound;
    if (getsockname(socket_, reinterpret_cast<sockaddr*>(&bound), &length) == 0) mine.port = bound.sin_port;
    if (!one_host) find_addresses(mine);
  }
  const std::vector<Place> places = gather(comm, mine);
  for (int peer = 0; peer < size_; ++peer) {
    const Place& place = places[static_cast<size_t>(peer)];
    std::vector<sockaddr_in>& addresses = peers_[static_cast<size_t>(peer)];
    if (peer == rank_ || place.port == 0) continue;
    if (place.host == mine.host) addresses.push_back(socket_address(htonl(INADDR_LOOPBACK), place.port));
    for (const uint32_t address : place.addresses) {
      if (address != 0) addresses.push_back(socket_address(address, place.port));
    }
    // Hosts that have nothing but loopback reach one another there or not at all.
    if (addresses.empty()) addresses.push_back(socket_address(htonl(INADDR_LOOPBACK), place.port));
  }
  std::random_device random;
  for (uint64_t& word : token_) word = (uint64_t{random()} << 32) | random();
  token_ = gather(comm, token_)[0];
}

WatchdogLine::~WatchdogLine() {
  if (socket_ >= 0) close(socket_);
}

void WatchdogLine::listen(bool one_host) {
  socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) return;
  const sockaddr_in any = socket_address(htonl(one_host ? INADDR_LOOPBACK : INADDR_ANY), 0);
  if (bind(socket_, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0) return;
  close(socket_);
  socket_ = -1;
}

void WatchdogLine::send(int peer, Kind kind, const RankState& state) const {
  if (socket_ < 0) return;
  Datagram datagram;
  std::memset(static_cast<void*>(&datagram), 0, sizeof datagram);  // padding travels, too
  datagram.token = token_;
  datagram.kind = kind;
  datagram.rank = rank_;
  datagram.state = state;
  for (const sockaddr_in& address : peers_[static_cast<size_t>(peer)]) {
    // Lost is lost: whoever needs an answer asks again.
    (void)!sendto(socket_, &datagram, sizeof datagram, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
}

std::optional<WatchdogLine::Message> WatchdogLine::receive() const {
  constexpr int kMostStrangers = 1000;  // in one call, so that a flood does not keep the watchdog from its own clock
  for (int i = 0; socket_ >= 0 && i < kMostStrangers; ++i) {
    Datagram datagram;
    const ssize_t bytes = recv(socket_, &datagram, sizeof datagram, MSG_TRUNC);  // the true length
    if (bytes < 0) return std::nullopt;
    if (bytes != static_cast<ssize_t>(sizeof datagram)) continue;
    if (const auto message = read(datagram)) return message;
  }
  return std::nullopt;
}

std::optional<WatchdogLine::Message> WatchdogLine::read(const Datagram& datagram) const {
  if (datagram.token != token_ || datagram.rank < 0 || datagram.rank >= size_ || datagram.rank == rank_) return std::nullopt;
  if (datagram.kind < Kind::kAsk || datagram.kind > Kind::kEnd) return std::nullopt;
  Message message{datagram.kind, datagram.rank, datagram.state};
  make_harmless(message.state.operation);
  make_harmless(message.state.name);
  message.state.waiting = message.state.waiting != 0 ? 1 : 0;
  if (!(message.state.seconds >= 0 && message.state.seconds < 1e9)) message.state.seconds = 0;
  return message;
}

}  // namespace switchyard
