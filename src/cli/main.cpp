// switchyard: parses the command line, runs one command, turns every error into one sentence and an exit code.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"

namespace {

using namespace switchyard;

Commands add_commands(CLI::App& program) {
  Commands commands;
  add_tokenize(program, commands);
  add_dataset(program, commands);
  add_train(program, commands);
  add_eval(program, commands);
  add_predict(program, commands);
  add_generate(program, commands);
  add_verify(program, commands);
  add_profile(program, commands);
  add_report(program, commands);
  add_summary(program, commands);
  add_inspect(program, commands);
  add_doctor(program, commands);
  return commands;
}

// The command that is asked for; none where --help or --version was, which is answered here.
const Command* parse(CLI::App& program, const Commands& commands, int argc, char** argv) {
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    program.exit(success);
    return nullptr;
  } catch (const CLI::ParseError& error) {
    if (argc > 1 && argv[1][0] != '-' && program.get_subcommands().empty()) {
      throw Error(ExitCode::kUsage, fmt::format("there is no command \"{}\"; see switchyard --help", argv[1]));
    }
    throw Error(ExitCode::kUsage, std::string(error.what()) + "; see switchyard --help");
  }
  for (const Command& command : commands) {
    if (!command.parser->parsed()) continue;
    const Launch launch = read_launch(process_environment);
    if (command.on_ranks || !launch.by_mpi || launch.ranks == 1) return &command;
    throw Error(ExitCode::kUsage, fmt::format("{} works alone, but {} ranks were started; run it without mpirun", command.parser->get_name(), launch.ranks));
  }
  throw InternalError("a command was parsed that nothing runs");
}

ExitCode run(CLI::App& program, int argc, char** argv) {
  const Commands commands = add_commands(program);
  const Command* command = nullptr;
  try {
    command = parse(program, commands, argc, argv);
  } catch (const Error& error) {
    if (!launched_by_mpi()) throw;
    // All ranks have the same command line and refuse it: rank 0 says why, and they leave together.
    return run_on_ranks([&](const MpiSession&) -> ExitCode { throw AgreedError(error.code(), error.what(), 0); });
  }
  return command != nullptr ? command->run() : ExitCode::kOk;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App program("Trains Switch Transformers, sparse Mixture-of-Experts models with top-1 routing, with expert parallelism.", "switchyard");
  program.set_version_flag("--version", kVersion);
  program.require_subcommand(1);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is an error of the write, not a death
  ExitCode code = ExitCode::kFailure;
  try {
    code = run(program, argc, argv);
    if (std::fflush(stdout) != 0) throw Error(ExitCode::kInputOutput, "cannot write to standard output; is its disk full or its reader gone?");
  } catch (const Error& error) {
    print_error(error.what());
    code = error.code();
  } catch (const std::bad_alloc&) {
    print_error("out of memory; use smaller sizes, or more ranks");
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return static_cast<int>(code);
}
