#include "src/cli/workplace.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "comm/checked.h"
#include "comm/make.h"
#include "src/config/build.h"

namespace switchyard {
namespace {

std::unique_ptr<Backend> host_backend(const Config& config, int threads) {
  return config.device() == Config::Device::REFERENCE ? make_reference_backend() : make_cpu_backend(threads);
}

std::string arithmetic(const ChosenDevice& device, const Config& config) {
  if (device.accelerator == nullptr && config.device() == Config::Device::REFERENCE) return "f32, plain loops (device REFERENCE, slow)";
  if (config.precision() == Config::F32) return "f32";
  const bool fast = device.accelerator != nullptr || cpu_has_fast_bf16();
  return fast ? "bf16 with f32 masters" : "bf16 with f32 masters (slow: this processor has no bf16 products)";
}

// 0 means off, so the shortest one is a millisecond.
std::chrono::milliseconds hang_deadline(const Config& config) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(config.parallel().hang_deadline()));
}

}  // namespace

Workplace::Workplace(const MpiSession& session, ChosenDevice device, const Config& config, bool check_collectives, spdlog::logger& log)
    : device_(std::move(device)),
      threads_(threads_of(config, session.host())),
      own_(device_.accelerator ? nullptr : host_backend(config, threads_)),
      grid_(session.rank(), session.size(), config.train().lanes(), config.parallel().expert_replicas()) {
  connect(session, config, check_collectives);
  if (Watchdog* watchdog = session.watchdog()) watchdog->set_deadline(hang_deadline(config));
  if (!device_.sentence.empty()) log.info("{}", device_.sentence);
  log.info("{} {} of {} {}; {}; {}", session.size(), session.size() == 1 ? "rank" : "ranks", threads_, threads_ == 1 ? "thread" : "threads",
           arithmetic(device_, config), transport_);
  if (const auto warning = session.warning()) log.warn("warning: {}", *warning);
  const int idle = grid_.lanes_rounded_up() - grid_.lanes();
  if (idle > 0) {
    log.warn("warning: {} lanes on {} ranks leave {} of {} turns of a step idle; let the ranks divide train.lanes", grid_.lanes(), grid_.size(), idle,
             grid_.lanes_rounded_up());
  }
}

// With GPUs the host's transport carries integers and files only, or, where ranks share a device, rows as well.
void Workplace::connect(const MpiSession& session, const Config& config, bool check_collectives) {
  const OutboxSizes sizes = outbox_sizes(model_options(config), train_options(config), precision(config), session.size());
  const bool on_host = device_.accelerator == nullptr || device_.shared;
  Made made =
      make_communicator(session, {.transport = on_host ? transport_named(Config::Parallel::Transport_Name(config.parallel().transport())) : Transport::kMpi,
                                  .sizes = on_host ? sizes : OutboxSizes{},
                                  .checked = check_collectives,
                                  .window = {},
                                  .emulated_link = config.parallel().emulated_link()});
  communicator_ = std::move(made.communicator);
  transport_ = made.sentence;
  if (device_.accelerator == nullptr) return;
  communicator_ =
      device_.accelerator->connect(std::move(communicator_), {.sizes = sizes, .staged = device_.shared, .deadline = config.parallel().hang_deadline()});
  if (check_collectives) communicator_ = make_checked_communicator(std::move(communicator_));
  if (session.size() > 1) transport_ = device_.shared ? "rows by way of the host, " + transport_ : "rows by NCCL";
}

int threads_of(const Config& config, const Host& host) { return config.threads() > 0 ? config.threads() : std::max(1, host.cores / std::max(1, host.ranks)); }

}  // namespace switchyard
