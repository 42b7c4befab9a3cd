#include "comm/make.h"

#include <fmt/format.h>

#include <utility>

#include "comm/checked.h"
#include "comm/mpi.h"
#include "comm/self.h"

namespace switchyard {
namespace {

Made choose(const MpiSession& session, const TransportOptions& options) {
  if (session.size() == 1) return {make_self_communicator(options.sizes), "transport SELF: there is one rank"};
  switch (options.transport) {
    case Transport::kSelf:
      throw Error(ExitCode::kUsage, fmt::format("parallel.transport SELF is for one rank, but there are {}: use AUTO, or start one rank", session.size()));
    case Transport::kMpi: return {make_mpi_communicator(session.world(), options.sizes), "transport MPI: asked for"};
    case Transport::kAuto:
    case Transport::kWindow: break;
  }
  WindowOrMpi made = make_window_communicator(session.world(), options.sizes, options.window);
  if (!made.fallback.empty()) return {std::move(made.communicator), made.fallback};
  return {std::move(made.communicator), fmt::format("transport WINDOW: all {} ranks are on one host, {} MiB of shared memory each", session.size(),
                                                    (window_bytes(options.sizes, session.size()) >> 20) + 1)};
}

}  // namespace

Transport transport_named(std::string_view name) {
  if (name == "AUTO") return Transport::kAuto;
  if (name == "SELF") return Transport::kSelf;
  if (name == "MPI") return Transport::kMpi;
  if (name == "WINDOW") return Transport::kWindow;
  throw Error(ExitCode::kUsage, fmt::format("parallel.transport must be AUTO, SELF, MPI or WINDOW but is '{}'", name));
}

Made make_communicator(const MpiSession& session, const TransportOptions& options) {
  Made made = choose(session, options);
  if (options.checked) {
    made.communicator = make_checked_communicator(std::move(made.communicator));
    made.sentence += ", every collective checked";
  }
  return made;
}

}  // namespace switchyard
