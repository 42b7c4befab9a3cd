// switchyard train: a run from its configuration to its last checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/run_data.h"
#include "src/cli/signals.h"
#include "src/cli/workplace.h"
#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/resume.h"
#include "src/config/validate.h"
#include "src/model/accounting.h"
#include "src/train/run.h"

namespace switchyard {
namespace {

struct Arguments {
  ConfigArguments config;
  std::string run, digests;
  bool resume = false, check_collectives = false;
};

// What the run works with: the configuration, resolved, and on resuming settled by what the checkpoint was made with; the
// tokenizer that the checkpoint was made with, if there is one.
struct Settled {
  Config config;
  std::string tokenizer;
};

Settled settle(Communicator& control, const Config& asked, bool fast, const Arguments& arguments, const std::string& run) {
  std::string text, tokenizer;
  agree_on(control, {"configuration", -1}, [&] {
    if (control.rank() != 0) return;
    std::vector<std::string> passed_over;  // load_checkpoint tells of them
    const auto checkpoint = arguments.resume ? find_newest_valid(run, passed_over) : std::nullopt;
    const Config config =
        checkpoint ? resume_config(parse_config(checkpoint->manifest.info.config, checkpoint->directory), asked) : resolve_config(asked, fast);
    validate(config, control.size());
    text = print_config(config);
    if (checkpoint) tokenizer = checkpoint->manifest.info.tokenizer;
  });
  return {parse_config(shared_text(control, text), "the resolved configuration"), shared_text(control, tokenizer)};
}

Trainer::Options trainer_options(const Config& config) {
  return {train_options(config), optimizer_options(config), schedule_options(config), model_options(config), precision(config)};
}

// A router whose probabilities choose nothing has no entropy to lose.
AlarmOptions alarm_options(const Config& config) {
  const Config::Log& log = config.log();
  const auto router = config.model().moe().router();
  const bool chooses = router != Config::Model::Moe::HASH && router != Config::Model::Moe::SOFT;
  return {.unused_steps = log.alarm_unused_steps(), .load = log.alarm_load(), .dropped = log.alarm_dropped(), .entropy = chooses ? log.alarm_entropy() : 0};
}

RunOptions run_options(const Config& config, const std::string& run, const RunData& data, int ranks) {
  RunOptions options;
  options.directory = run;
  options.epoch_ends = data.epoch_ends(config);
  options.steps = config.train().steps();
  if (!options.epoch_ends.empty()) options.steps = std::min(options.steps, options.epoch_ends.back());
  options.patience = config.train().patience();
  options.keep_best = config.checkpoint().keep_best();
  options.checkpoint_every = config.checkpoint().every();
  options.keep = config.checkpoint().keep();
  options.evaluate_every = config.eval().every();
  options.log_every = config.log().every();
  options.heldout_bytes = data.heldout_bytes();
  options.whole_heldout = config.eval().batches() == 0;
  options.trace = config.log().trace();
  options.alarms = alarm_options(config);
  options.flops_per_token = model_cost(model_options(config)).training_flops;
  options.places = int64_t{config.train().lanes()} * config.train().accumulate() * config.train().sequences() * config.model().sequence_length();
  options.info.seed = config.seed();
  options.info.config = print_config(config);
  options.info.precision = Config::Precision_Name(config.precision());
  options.info.tokenizer = data.tokenizer().digest().hex();
  options.info.code = fmt::format("switchyard {}", kVersion);
  options.info.ranks = ranks;
  return options;
}

std::unique_ptr<EvaluationSource> heldout_batches(const Config& config, const RunData& data) {
  const bool evaluates = config.eval().every() > 0 || config.train().epochs() > 0;
  return evaluates ? data.heldout(config, config.eval().batches()) : nullptr;
}

ExitCode train(const MpiSession& session, const Arguments& arguments, const std::atomic<bool>& stop) {
  const auto control = make_control(session);
  const Config asked = shared_config(*control, arguments.config);
  const std::string run = arguments.run.empty() ? "runs/" + config_name(arguments.config.path) : arguments.run;
  const auto directory = open_run(*control, run, arguments.resume);
  ChosenDevice device = choose_device(session, *control, asked);
  const Settled settled = settle(*control, asked, device.fast_bf16, arguments, run);
  const Config& config = settled.config;
  const Log log = make_log(session.rank());
  RunData data;
  agree_on(*control, {"data", -1}, [&] {
    data = RunData(config);
    data.expect_tokenizer(settled.tokenizer, run);
  });

  Workplace workplace(session, std::move(device), config, arguments.check_collectives, *log);
  log->info("configuration:\n{}", print_config(config));
  Trainer trainer(workplace.parts(), trainer_options(config));
  const auto batches = data.train(config);
  const auto heldout = heldout_batches(config, data);
  Run training(trainer, *batches, heldout.get(), directory.get(), run_options(config, run, data, session.size()), stop,
               [&](const std::string& sentence) { log->info("{}", sentence); });
  training.start(arguments.resume, workplace.threads());

  std::unique_ptr<DigestWriter> digests;
  if (!arguments.digests.empty()) {
    agree_on(*control, {"digests", -1}, [&] { digests = std::make_unique<DigestWriter>(workplace.parts().communicator, arguments.digests); });
    trainer.watch(digests.get());
  }
  const ExitCode code = training.train();
  if (digests) agree_on(*control, {"digests", -1}, [&] { digests->close(); });
  if (code == ExitCode::kPreempted) log->info("stopped as asked at step {}; continue with --resume", trainer.progress().step);
  return code;
}

}  // namespace

void add_train(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("train", "Train a model; run by mpirun on as many ranks as train.lanes allows");
  add_config_arguments(command, arguments->config);
  command.add_option("--run", arguments->run, "Directory of the run (default: runs/<name of the configuration>)")->type_name("DIR");
  command.add_flag("--resume", arguments->resume, "Continue from the newest whole checkpoint of the run");
  command.add_option("--digests", arguments->digests, "Write digests of every step's gradients, weights and moments to this file")->type_name("FILE");
  command.add_flag("--check-collectives", arguments->check_collectives, "Compare every collective with those of the other ranks before it starts");
  commands.push_back({&command,
                      [arguments] {
                        const bool ranks = launched_by_mpi();
                        if (ranks) die_with_parent();
                        const std::atomic<bool>& stop = stop_on_signals(ranks);
                        return run_on_ranks([&](const MpiSession& session) { return train(session, *arguments, stop); });
                      },
                      true});
}

}  // namespace switchyard
