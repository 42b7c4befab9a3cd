#include "src/cli/trained.h"

#include <fmt/format.h>

#include <filesystem>

#include "comm/agree.h"
#include "src/checkpoint/checkpoint.h"
#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/validate.h"

namespace switchyard {
namespace {

std::string stored_config(const std::string& run, const std::vector<std::string>& overrides, int ranks) {
  if (!std::filesystem::is_directory(run)) throw Error(ExitCode::kInputOutput, fmt::format("{} is no directory; name the --run directory of a training", run));
  std::vector<std::string> passed_over;  // load_checkpoint tells of them
  const auto checkpoint = find_newest_valid(run, passed_over);
  if (!checkpoint) throw Error(ExitCode::kData, fmt::format("{} holds no checkpoint; train writes one at its end and every checkpoint.every steps", run));
  Config config = parse_config(checkpoint->manifest.info.config, checkpoint->directory);
  apply_overrides(config, overrides);
  validate(config, ranks);
  return print_config(config);
}

}  // namespace

Trained load_trained(const MpiSession& session, const std::string& run, const std::vector<std::string>& overrides, spdlog::logger& log) {
  const auto control = make_control(session);
  std::string text;
  agree_on(*control, {"configuration", -1}, [&] {
    if (control->rank() == 0) text = stored_config(run, overrides, control->size());
  });
  Trained trained;
  trained.config = parse_config(shared_text(*control, text), "the run's configuration");
  agree_on(*control, {"data", -1}, [&] { trained.data = open_data(trained.config); });
  trained.workplace = std::make_unique<Workplace>(session, trained.config, false, log);
  const Parts parts = trained.workplace->parts();
  trained.runtime =
      std::make_unique<Runtime>(parts, Runtime::Options{model_options(trained.config), train_options(trained.config), precision(trained.config), 0, false});
  State state = trained.runtime->store().state({});
  const auto loaded = load_checkpoint(parts.communicator, run, state, {.weights_only = true});
  if (!loaded) throw AgreedError(ExitCode::kData, fmt::format("{} held a checkpoint a moment ago and holds none now; is a training running in it?", run), 0);
  for (const std::string& warning : loaded->warnings) log.warn("warning: {}", warning);
  trained.runtime->store().publish(parts.communicator, parts.trace);
  trained.checkpoint = loaded->directory;
  trained.step = loaded->info.step;
  return trained;
}

}  // namespace switchyard
