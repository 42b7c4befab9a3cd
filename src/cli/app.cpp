#include "src/cli/app.h"

#include <fmt/format.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "comm/agree.h"
#include "comm/make.h"
#include "kernels/backend.h"
#include "src/config/load.h"
#include "src/config/validate.h"

namespace switchyard {

void print_error(const std::string& sentence) {
  std::string line = "switchyard: " + sentence;
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);  // in one piece: ranks share the stream
}

Log make_log(int rank) {
  if (rank != 0) return std::make_shared<spdlog::logger>("switchyard", std::make_shared<spdlog::sinks::null_sink_st>());
  const bool terminal = isatty(STDERR_FILENO) != 0;
  spdlog::sink_ptr sink;
  if (terminal) {
    sink = std::make_shared<spdlog::sinks::stderr_color_sink_st>();
  } else {
    sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
  }
  auto log = std::make_shared<spdlog::logger>("switchyard", sink);
  log->set_pattern(terminal ? "%T %^%v%$" : "%v");
  log->flush_on(spdlog::level::info);
  return log;
}

void add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("CONFIG", arguments.path, "Configuration, a .textproto file")->required()->type_name("FILE");
  command.add_option("--set", arguments.overrides, "Override a field: train.steps=200. May be repeated")->allow_extra_args(false)->type_name("FIELD=VALUE");
}

namespace {

// This process's arguments, without the program's own path.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  text.erase(0, std::min(text.find('\0'), text.size()));
  std::replace(text.begin(), text.end(), '\0', ' ');
  return fmt::format("switchyard {}{}", kVersion, text);
}

// Ranks that were started for different work would wait for one another for ever.
void require_one_command_line(const MpiSession& session) {
  const auto control = make_control(session);
  const std::string mine = command_line(), first = shared_text(*control, mine);
  agree_on(*control, {"command line", -1}, [&] {
    if (mine == first) return;
    throw Error(ExitCode::kUsage, fmt::format("started as \"{}\" where rank 0 is \"{}\"; give every rank the same program and arguments", mine, first));
  });
}

}  // namespace

ExitCode run_on_ranks(const std::function<ExitCode(const MpiSession&)>& work) {
  MpiSession session;
  const auto fail = [&](const std::string& sentence, ExitCode code) {
    print_error(session.size() > 1 ? fmt::format("rank {}: {}", session.rank(), sentence) : sentence);
    if (session.size() > 1) session.abort(code);
    return code;
  };
  try {
    if (session.size() > 1) {
      session.start_watchdog({.deadline = kHangDeadline, .patience = std::chrono::milliseconds(500), .say = print_error, .leave = {}});
      require_one_command_line(session);
    }
    return work(session);
  } catch (const AgreedError& error) {
    if (session.rank() == 0) print_error(error.what());
    return error.code();
  } catch (const Error& error) {
    return fail(error.what(), error.code());
  } catch (const std::bad_alloc&) {
    return fail("out of memory; use smaller sizes, or more ranks", ExitCode::kFailure);
  } catch (const std::exception& error) {
    return fail(error.what(), ExitCode::kFailure);
  }
}

std::unique_ptr<Communicator> make_control(const MpiSession& session) {
  return make_communicator(session, {.transport = Transport::kMpi, .sizes = {}, .checked = false, .window = {}}).communicator;
}

Config shared_config(Communicator& control, const ConfigArguments& arguments) {
  std::string bytes;
  agree_on(control, {"configuration", -1}, [&] {
    if (control.rank() != 0) return;
    const Config config = load_config(arguments.path, arguments.overrides);
    validate(config, control.size());
    config.SerializeToString(&bytes);
  });
  Config config;
  check(config.ParseFromString(shared_text(control, bytes)), "the configuration changed on its way from rank 0");
  return config;
}

std::string shared_text(Communicator& control, const std::string& text) {
  const bool source = control.rank() == 0;
  int64_t size[1] = {source ? static_cast<int64_t>(text.size()) : 0};
  control.reduce({"text size", -1}, size, Reduction::kMax);
  std::string shared = source ? text : std::string();
  shared.resize(static_cast<size_t>((size[0] + 3) / 4 * 4));
  control.broadcast({"text", -1}, Tensor(shared.data(), Dtype::kI32, {static_cast<int64_t>(shared.size()) / 4}), 0);
  shared.resize(static_cast<size_t>(size[0]));
  return shared;
}

}  // namespace switchyard
