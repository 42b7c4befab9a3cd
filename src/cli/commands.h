// The commands of the program, one file each. A command adds its options to the program's parser and leaves behind what
// is to be done when it is the one that was asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

#include "src/base/error.h"

namespace switchyard {

struct Command {
  CLI::App* parser = nullptr;
  std::function<ExitCode()> run;
  bool on_ranks = false;  // works together on all ranks of a launcher; the others are refused there
};
using Commands = std::vector<Command>;

void add_dataset(CLI::App& program, Commands& commands);
void add_doctor(CLI::App& program, Commands& commands);
void add_inspect(CLI::App& program, Commands& commands);
void add_summary(CLI::App& program, Commands& commands);
void add_tokenize(CLI::App& program, Commands& commands);
void add_report(CLI::App& program, Commands& commands);
void add_verify(CLI::App& program, Commands& commands);
void add_generate(CLI::App& program, Commands& commands);
void add_predict(CLI::App& program, Commands& commands);
void add_eval(CLI::App& program, Commands& commands);
void add_profile(CLI::App& program, Commands& commands);
void add_train(CLI::App& program, Commands& commands);

}  // namespace switchyard
