#include "comm/make.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "comm/checked.h"
#include "comm/emulated.h"
#include "comm/link_file.h"
#include "comm/measure.h"
#include "comm/mpi.h"
#include "comm/self.h"
#include "comm/two_level.h"
#include "comm/two_level_plan.h"

namespace switchyard {
namespace {

constexpr Call kStart{"start", -1};
constexpr int64_t kMeasuredBytes = 64 << 10;  // per pair of ranks
constexpr double kClearly = 0.9;              // of the time of the transport that stands before it in order of preference

struct TransportName {
  const char* name;
  Transport transport;
};
constexpr std::array<TransportName, 6> kNames = {{{"AUTO", Transport::kAuto},
                                                  {"SELF", Transport::kSelf},
                                                  {"MPI", Transport::kMpi},
                                                  {"MPI_PAIRWISE", Transport::kMpiPairwise},
                                                  {"WINDOW", Transport::kWindow},
                                                  {"TWO_LEVEL", Transport::kTwoLevel}}};

// A transport that there is.
struct Option {
  Transport transport;  // perhaps another than was wanted
  Made made;
};

// What there is to choose from, on the ranks of a session.
class Chooser {
 public:
  Chooser(const MpiSession& session, const TransportOptions& options, const std::vector<int>& hosts)
      : session_(session), options_(options), hosts_(hosts), map_(hosts_) {}

  Made choose() const {
    if (options_.transport == Transport::kSelf)
      throw Error(ExitCode::kUsage, fmt::format("parallel.transport SELF is for one rank, but there are {}: use AUTO, or start one rank", session_.size()));
    return options_.transport == Transport::kAuto ? fastest() : make(options_.transport).made;
  }

 private:
  Option make(Transport transport) const {
    if (transport == Transport::kTwoLevel) return make_two_level();
    if (transport == Transport::kWindow) return make_window();
    const MpiAlgorithm algorithm = transport == Transport::kMpiPairwise ? MpiAlgorithm::kPairwise : MpiAlgorithm::kLinear;
    const char* reason = options_.transport == Transport::kAuto ? "the fastest" : "asked for";
    return {transport,
            {make_mpi_communicator(session_.world(), options_.sizes, {.algorithm = algorithm}), fmt::format("transport {}: {}", name(transport), reason)}};
  }

  Option make_window() const {
    WindowOrMpi made = make_window_communicator(session_.world(), options_.sizes, options_.window);
    if (!made.fallback.empty()) return {Transport::kMpi, {std::move(made.communicator), made.fallback}};
    return {Transport::kWindow,
            {std::move(made.communicator), fmt::format("transport WINDOW: all {} ranks are on one host, {} MiB of shared memory each", session_.size(),
                                                       (window_bytes(options_.sizes, session_.size()) >> 20) + 1)}};
  }

  Option make_two_level() const {
    if (map_.hosts() == 1) {
      Option option = make_window();
      option.made.sentence += "; TWO_LEVEL is for several hosts";
      return option;
    }
    if (map_.hosts() == map_.ranks()) {
      Option option = make(Transport::kMpi);
      option.made.sentence = "transport MPI instead of TWO_LEVEL: no two ranks share a host";
      return option;
    }
    TwoLevelOverMpi made = make_two_level_over_mpi(session_.world(), options_.sizes, hosts_, options_.window);
    const char* inside = made.windows ? "shared memory inside them" : "messages inside those whose shared memory has no room";
    return {Transport::kTwoLevel,
            {std::move(made.communicator), fmt::format("transport TWO_LEVEL: {} ranks on {} hosts, {}", session_.size(), map_.hosts(), inside)}};
  }

  // In order of preference.
  std::vector<Transport> candidates() const {
    std::vector<Transport> known;
    if (map_.hosts() == 1) known.push_back(Transport::kWindow);
    known.push_back(Transport::kMpi);
    if (session_.size() > 2) known.push_back(Transport::kMpiPairwise);
    if (map_.hosts() > 1 && map_.hosts() < map_.ranks()) known.push_back(Transport::kTwoLevel);
    return known;
  }

  Made fastest() const {
    // A dense model has no exchange.
    const OutboxUse use = options_.sizes.exchange_bytes > 0 ? OutboxUse::kExchange : OutboxUse::kBucket;
    const int64_t size = use == OutboxUse::kExchange ? options_.sizes.exchange_bytes : options_.sizes.bucket_bytes;
    const int64_t room = size > 0 ? size / session_.size() : kMeasuredBytes;
    const int64_t bytes = std::max<int64_t>(std::min(kMeasuredBytes, room) / 4 * 4, 0);
    Option best{Transport::kAuto, {}};
    int64_t least = 0;
    std::string figures;
    std::string missing;  // why there is no window
    for (const Transport transport : candidates()) {
      if (transport == best.transport) continue;  // it stands in for another
      Option option = make(transport);
      if (option.transport != transport) missing = option.made.sentence;
      const int64_t taken = measure_all_to_all(*option.made.communicator, use, bytes);
      figures += fmt::format("{}{} {:.0f} us", figures.empty() ? "" : ", ", name(option.transport), static_cast<double>(taken) / 1e3);
      if (best.made.communicator && static_cast<double>(taken) > kClearly * static_cast<double>(least)) continue;
      best = std::move(option);
      least = taken;
    }
    if (!missing.empty() && missing != best.made.sentence) best.made.sentence = missing + "; " + best.made.sentence;
    best.made.sentence += fmt::format("; an all_to_all of {} KiB a pair took {}", (bytes + 1023) >> 10, figures);
    return std::move(best.made);
  }

  const MpiSession& session_;
  const TransportOptions& options_;
  const std::vector<int>& hosts_;
  HostMap map_;
};

// As they are, or as a link file pretends.
std::vector<int> hosts_of(const MpiSession& session, const std::optional<LinkFile>& file) {
  if (!file || file->ranks_per_host == 0) return hosts_of_ranks(session.world());
  std::vector<int> hosts;
  for (int rank = 0; rank < session.size(); ++rank) hosts.push_back(rank / file->ranks_per_host);
  return hosts;
}

std::string describe(const Link& link) { return fmt::format("{:g} us and {:g} GB/s", link.alpha * 1e6, link.bytes_per_second / 1e9); }

void emulate(const MpiSession& session, const LinkFile& file, std::vector<int> hosts, Made& made) {
  constexpr OutboxSizes kStamps{64, 64};
  made.sentence += fmt::format("; emulated link: {} within {} hosts, {} between them", describe(file.model.within_host), HostMap(hosts).hosts(),
                               describe(file.model.between_hosts));
  made.communicator = make_emulated_communicator(std::move(made.communicator), make_mpi_communicator(session.world(), kStamps), {file.model, std::move(hosts)},
                                                 make_monotonic_clock());
}

Made make_for_several(const MpiSession& session, const TransportOptions& options) {
  std::optional<LinkFile> file;
  if (!options.emulated_link.empty()) file = shared_link_file(*make_mpi_communicator(session.world(), {}), options.emulated_link);
  std::vector<int> hosts = hosts_of(session, file);
  Made made = Chooser(session, options, hosts).choose();
  if (options.checked) {
    made.communicator = make_checked_communicator(std::move(made.communicator));
    made.sentence += ", every collective checked";
  }
  if (file) emulate(session, *file, std::move(hosts), made);
  return made;
}

}  // namespace

Transport transport_named(std::string_view text) {
  for (const TransportName& known : kNames) {
    if (text == known.name) return known.transport;
  }
  throw Error(ExitCode::kUsage, fmt::format("parallel.transport must be AUTO, SELF, MPI, MPI_PAIRWISE, WINDOW or TWO_LEVEL but is '{}'", text));
}

const char* name(Transport transport) {
  return std::find_if(kNames.begin(), kNames.end(), [&](const TransportName& known) { return known.transport == transport; })->name;
}

Made make_communicator(const MpiSession& session, const TransportOptions& options) {
  Made made;
  if (session.size() == 1) {
    if (!options.emulated_link.empty()) read_link_file(options.emulated_link);  // a wrong file is wrong on one rank, too
    made = {make_self_communicator(options.sizes), "transport SELF: there is one rank"};
    if (options.checked) made = {make_checked_communicator(std::move(made.communicator)), made.sentence + ", every collective checked"};
  } else {
    std::optional<Watchdog::Stay> stay;
    if (session.watchdog() != nullptr) stay.emplace(*session.watchdog(), "choice of a transport", kStart);
    made = make_for_several(session, options);
  }
  if (Watchdog* watchdog = session.watchdog()) made.communicator = watchdog->watch(std::move(made.communicator));
  return made;
}

}  // namespace switchyard
