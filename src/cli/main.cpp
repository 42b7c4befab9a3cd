// switchyard: parses the command line, runs one command, turns every error into one sentence and an exit code.
#include <fmt/format.h>

#include <cstdio>

#include "src/cli/app.h"
#include "src/cli/commands.h"

namespace {

using namespace switchyard;

ExitCode run(CLI::App& program, int argc, char** argv) {
  Commands commands;
  add_tokenize(program, commands);
  add_train(program, commands);
  add_eval(program, commands);
  add_generate(program, commands);
  add_verify(program, commands);
  add_summary(program, commands);
  add_inspect(program, commands);
  add_doctor(program, commands);
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    program.exit(success);
    return ExitCode::kOk;
  } catch (const CLI::ParseError& error) {
    if (argc > 1 && argv[1][0] != '-' && program.get_subcommands().empty()) {
      throw Error(ExitCode::kUsage, fmt::format("there is no command \"{}\"; see switchyard --help", argv[1]));
    }
    throw Error(ExitCode::kUsage, std::string(error.what()) + "; see switchyard --help");
  }
  for (const Command& command : commands) {
    if (command.parser->parsed()) return command.run();
  }
  throw InternalError("a command was parsed that nothing runs");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App program("Trains Switch Transformers, sparse Mixture-of-Experts models with top-1 routing, with expert parallelism.", "switchyard");
  program.set_version_flag("--version", kVersion);
  program.require_subcommand(1);
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
