#include "src/cli/trained.h"

#include <fmt/format.h>

#include <filesystem>

#include "comm/agree.h"
#include "src/checkpoint/checkpoint.h"
#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "src/train/run.h"

namespace switchyard {
namespace {

// The directory whose newest checkpoint is to be used, the run's configuration with the overrides, and its tokenizer's digest.
struct Choice {
  std::string directory, config, tokenizer;
};

Choice choose(const std::string& run, const std::vector<std::string>& overrides, Drops drops, int ranks) {
  if (!std::filesystem::is_directory(run)) throw Error(ExitCode::kInputOutput, fmt::format("{} is no directory; name the --run directory of a training", run));
  const std::string best = best_directory(run);
  const bool has_own = !list_checkpoints(run).empty(), has_best = !list_checkpoints(best).empty();
  std::vector<std::string> passed_over;  // load_checkpoint tells of them
  const auto checkpoint = find_newest_valid(has_own ? run : best, passed_over);
  if (!checkpoint) throw Error(ExitCode::kData, fmt::format("{} holds no checkpoint; train writes one at its end and every checkpoint.every steps", run));
  Config config = parse_config(checkpoint->manifest.info.config, checkpoint->directory);
  apply_overrides(config, overrides);
  Config::Model::Moe& moe = *config.mutable_model()->mutable_moe();
  if (drops == Drops::kNone && moe.router() != Config::Model::Moe::EXPERT_CHOICE) moe.set_eval_capacity_factor(0);
  validate(config, ranks);
  return {has_best && (config.checkpoint().keep_best() || !has_own) ? best : run, print_config(config), checkpoint->manifest.info.tokenizer};
}

}  // namespace

Trained load_trained(const MpiSession& session, const std::string& run, const std::vector<std::string>& overrides, Drops drops, spdlog::logger& log) {
  const auto control = make_control(session);
  Choice choice;
  agree_on(*control, {"configuration", -1}, [&] {
    if (control->rank() == 0) choice = choose(run, overrides, drops, control->size());
  });
  choice = {shared_text(*control, choice.directory), shared_text(*control, choice.config), shared_text(*control, choice.tokenizer)};
  Trained trained;
  trained.config = parse_config(choice.config, "the run's configuration");
  agree_on(*control, {"data", -1}, [&] {
    trained.data = RunData(trained.config);
    trained.data.expect_tokenizer(choice.tokenizer, run);
  });
  trained.workplace = std::make_unique<Workplace>(session, choose_device(session, *control, trained.config), trained.config, false, log);
  const Parts parts = trained.workplace->parts();
  trained.runtime =
      std::make_unique<Runtime>(parts, Runtime::Options{model_options(trained.config), train_options(trained.config), precision(trained.config), 0, false});
  State state = trained.runtime->state({});
  const auto loaded = load_checkpoint(parts.communicator, choice.directory, state, {.weights_only = true});
  if (!loaded) throw AgreedError(ExitCode::kData, fmt::format("{} held a checkpoint a moment ago and holds none now; is a training running in it?", run), 0);
  for (const std::string& warning : loaded->warnings) log.warn("warning: {}", warning);
  trained.runtime->share();
  trained.checkpoint = loaded->directory;
  trained.step = loaded->info.step;
  return trained;
}

}  // namespace switchyard
