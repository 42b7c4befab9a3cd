#include "src/cli/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "comm/agree.h"
#include "kernels/backend.h"

namespace switchyard {
namespace {

// This rank's number among those of its host.
int rank_on_host(const MpiSession& session) {
  if (!session.active()) return 0;
  const std::vector<int> hosts = hosts_of_ranks(session.world());
  const int mine = hosts[static_cast<size_t>(session.rank())];
  return static_cast<int>(std::count(hosts.begin(), hosts.begin() + session.rank(), mine));
}

bool on_every_rank(Communicator& control, Call call, bool here) {
  int64_t value[1] = {here ? 1 : 0};
  control.reduce(call, value, Reduction::kMin);
  return value[0] != 0;
}

// The sentence of the first rank that has one, on every rank.
std::string first_sentence(Communicator& control, const std::string& mine) {
  int64_t first[1] = {mine.empty() ? control.size() : control.rank()};
  control.reduce({"device", -1}, first, Reduction::kMin);
  if (first[0] == control.size()) return {};
  std::string words = control.rank() == first[0] ? mine : std::string();
  words.resize(512, ' ');
  control.broadcast({"device", -1}, Tensor(words.data(), Dtype::kI32, {static_cast<int64_t>(words.size() / 4)}), static_cast<int>(first[0]));
  words.erase(words.find_last_not_of(' ') + 1);
  return words;
}

struct Found {
  const AcceleratorPlugin* plugin = nullptr;
  int devices = 0;
  std::string sentence;  // why there is none
};

Found find_devices() {
  Found found;
  found.plugin = open_accelerator_plugin(found.sentence);
  if (found.plugin != nullptr) found.devices = found.plugin->devices(found.sentence);
  return found;
}

// Ranks beyond the host's devices need leave to share.
void require_room(const MpiSession& session, Communicator& control, int devices, bool share) {
  agree_on(control, {"device", -1}, [&] {
    if (session.host().ranks <= devices || share) return;
    throw Error(ExitCode::kUsage, fmt::format("{} ranks on a host with {} {}; start as many ranks as GPUs, or set parallel.device_share, or device: CPU",
                                              session.host().ranks, devices, devices == 1 ? "GPU" : "GPUs"));
  });
}

}  // namespace

ChosenDevice choose_device(const MpiSession& session, Communicator& control, const Config& config) {
  using Kind = Config::Device;
  ChosenDevice chosen;
  const auto on_host = [&](bool fast) {
    chosen.fast_bf16 = on_every_rank(control, {"fast bf16", -1}, fast);
    return std::move(chosen);
  };
  if (config.device() == Kind::REFERENCE) return on_host(false);
  if (config.device() == Kind::CPU) return on_host(cpu_has_fast_bf16());

  const Found found = find_devices();
  if (!on_every_rank(control, {"device", -1}, found.devices > 0)) {
    const std::string reason = first_sentence(control, found.devices > 0 ? "" : found.sentence);
    agree_on(control, {"device", -1}, [&] {
      if (config.device() == Kind::CUDA) throw Error(ExitCode::kUsage, fmt::format("device is CUDA, but {}; or choose device: CPU", reason));
    });
    chosen.sentence = fmt::format("device AUTO: the CPU, as {}", reason);
    return on_host(cpu_has_fast_bf16());
  }
  require_room(session, control, found.devices, config.parallel().device_share());
  chosen.shared = !on_every_rank(control, {"device", -1}, session.host().ranks <= found.devices);
  const int number = rank_on_host(session) % found.devices;
  agree_on(control, {"device", -1}, [&] { chosen.accelerator = found.plugin->open(number); });
  chosen.fast_bf16 = true;
  chosen.sentence = fmt::format("device: {}", chosen.accelerator->description());
  return chosen;
}

}  // namespace switchyard
