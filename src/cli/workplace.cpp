#include "src/cli/workplace.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "comm/make.h"
#include "src/config/build.h"

namespace switchyard {
namespace {

std::unique_ptr<Backend> make_backend(const Config& config, int threads) {
  return config.device() == Config::REFERENCE ? make_reference_backend() : make_cpu_backend(threads);
}

std::string arithmetic(const Config& config) {
  if (config.device() == Config::REFERENCE) return "f32, plain loops (device REFERENCE, slow)";
  if (config.precision() == Config::F32) return "f32";
  return cpu_has_fast_bf16() ? "bf16 with f32 masters" : "bf16 with f32 masters (slow: this processor has no bf16 products)";
}

// 0 means off, so the shortest one is a millisecond.
std::chrono::milliseconds hang_deadline(const Config& config) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(config.parallel().hang_deadline()));
}

}  // namespace

Workplace::Workplace(const MpiSession& session, const Config& config, bool check_collectives, spdlog::logger& log)
    : threads_(threads_of(config, session.host())),
      backend_(make_backend(config, threads_)),
      grid_(session.rank(), session.size(), config.train().lanes(), config.parallel().expert_replicas()) {
  Made made = make_communicator(session, {.transport = transport_named(Config::Parallel::Transport_Name(config.parallel().transport())),
                                          .sizes = outbox_sizes(model_options(config), train_options(config), precision(config), session.size()),
                                          .checked = check_collectives,
                                          .window = {},
                                          .emulated_link = config.parallel().emulated_link()});
  communicator_ = std::move(made.communicator);
  transport_ = made.sentence;
  if (Watchdog* watchdog = session.watchdog()) watchdog->set_deadline(hang_deadline(config));
  log.info("{} {} of {} {}; {}; {}", session.size(), session.size() == 1 ? "rank" : "ranks", threads_, threads_ == 1 ? "thread" : "threads", arithmetic(config),
           made.sentence);
  if (const auto warning = session.warning()) log.warn("warning: {}", *warning);
  const int idle = grid_.lanes_rounded_up() - grid_.lanes();
  if (idle > 0) {
    log.warn("warning: {} lanes on {} ranks leave {} of {} turns of a step idle; let the ranks divide train.lanes", grid_.lanes(), grid_.size(), idle,
             grid_.lanes_rounded_up());
  }
}

int threads_of(const Config& config, const Host& host) { return config.threads() > 0 ? config.threads() : std::max(1, host.cores / std::max(1, host.ranks)); }

}  // namespace switchyard
