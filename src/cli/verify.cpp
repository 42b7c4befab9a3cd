// switchyard verify: the certificate. It trains the user's own configuration on several numbers of ranks and threads, and
// compares what they computed, bit by bit.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "comm/host.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "src/train/digests.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> overrides, compare;
  std::vector<int> ranks = {1, 2, 4}, threads = {1};
  int64_t steps = 0;  // 0: the configuration's
  std::string keep;   // folder for the digest files; "": a temporary one
};

struct Member {
  int ranks = 1, threads = 1;
  std::string digests;
  std::string name() const { return fmt::format("{} {} x {} {}", ranks, ranks == 1 ? "rank" : "ranks", threads, threads == 1 ? "thread" : "threads"); }
};

// A folder that goes with the object unless the user named it.
class Workspace {
 public:
  explicit Workspace(const std::string& named) : path_(named), temporary_(named.empty()) {
    if (!temporary_) {
      std::error_code failed;
      std::filesystem::create_directories(path_, failed);
      if (failed) throw Error(ExitCode::kInputOutput, fmt::format("cannot create {}: {}; choose another --keep folder", path_, failed.message()));
      return;
    }
    std::string name = (std::filesystem::temp_directory_path() / "switchyard-verify-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error(ExitCode::kInputOutput, fmt::format("cannot create {}: {}; set TMPDIR", name, std::strerror(errno)));
    path_ = name;
  }
  ~Workspace() {
    std::error_code ignored;
    if (temporary_) std::filesystem::remove_all(path_, ignored);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool temporary_;
};

std::string own_path() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::vector<std::string> command_of(const Arguments& arguments, const Member& member, const std::string& run) {
  std::vector<std::string> words = {
      "mpirun",    "-np",         std::to_string(member.ranks), "--bind-to", "none", "--oversubscribe", own_path(), "train", arguments.config, "--run", run,
      "--digests", member.digests};
  for (const std::string& field : arguments.overrides) words.insert(words.end(), {"--set", field});
  words.insert(words.end(), {"--set", fmt::format("threads={}", member.threads)});
  if (arguments.steps > 0) words.insert(words.end(), {"--set", fmt::format("train.steps={}", arguments.steps)});
  return words;
}

// Runs a command with its output in a file; answers with its exit code.
int run_command(const std::vector<std::string>& words, const std::string& output) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));  // posix_spawn does not write to it
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw Error(ExitCode::kFailure, fmt::format("cannot start {}: {}; run launch/install.sh", words[0], std::strerror(failed)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The sentence with which a run of the program ended.
std::string last_sentence(const std::string& output) {
  std::ifstream file(output);
  std::string line, found = "it said nothing";
  while (std::getline(file, line)) {
    if (line.starts_with("switchyard: ")) found = line.substr(std::strlen("switchyard: "));
  }
  return found;
}

void train(const Arguments& arguments, const Member& member, const std::string& workspace) {
  const std::string run = fmt::format("{}/run-{}x{}", workspace, member.ranks, member.threads), output = run + ".log";
  const int code = run_command(command_of(arguments, member, run), output);
  if (code != 0) {
    throw Error(static_cast<ExitCode>(code), fmt::format("training on {} ended with exit code {}: {}", member.name(), code, last_sentence(output)));
  }
  std::error_code ignored;
  std::filesystem::remove_all(run, ignored);
}

ExitCode report(const Member& first, const std::vector<Member>& members) {
  ExitCode code = ExitCode::kOk;
  for (const Member& member : members) {
    const auto difference = compare_digests(first.digests, member.digests);
    if (!difference) continue;
    fmt::print("{} against {}: {}\n", member.name(), first.name(), difference->sentence());
    code = ExitCode::kFailure;
  }
  fmt::print("{}\n", code == ExitCode::kOk ? "identical" : "different");
  return code;
}

void prepare_environment(const std::vector<int>& ranks) {
  if (geteuid() == 0) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  const int most = *std::max_element(ranks.begin(), ranks.end());
  if (most > available_cores(false)) setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
}

ExitCode certify(const Arguments& arguments) {
  const Config config = load_config(arguments.config, arguments.overrides);
  for (const int ranks : arguments.ranks) validate(config, ranks);
  prepare_environment(arguments.ranks);
  const Workspace workspace(arguments.keep);
  fmt::print("{:<22}{:>6}  {:<18}{:<18}{:<18}{:<18}\n", "run", "steps", "loss", "gradients", "optimizer", "weights");
  std::vector<Member> members;
  for (const int threads : arguments.threads) {
    for (const int ranks : arguments.ranks) {
      members.push_back({ranks, threads, fmt::format("{}/digests-{}x{}", workspace.path(), ranks, threads)});
      train(arguments, members.back(), workspace.path());
      const DigestSummary summary = summarize_digests(members.back().digests);
      fmt::print("{:<22}{:>6}  {:<18}{:<18}{:<18}{:<18}\n", members.back().name(), summary.steps + 1, summary.loss, summary.gradients, summary.optimizer,
                 summary.weights);
      std::fflush(stdout);
    }
  }
  return report(members.front(), members);
}

ExitCode compare(const std::vector<std::string>& files) {
  const auto difference = compare_digests(files[0], files[1]);
  fmt::print("{}\n", difference ? difference->sentence() : "identical");
  return difference ? ExitCode::kFailure : ExitCode::kOk;
}

ExitCode verify(const Arguments& arguments) {
  if (launched_by_mpi()) throw Error(ExitCode::kUsage, "verify starts mpirun itself; run it without mpirun");
  if (!arguments.compare.empty()) return compare(arguments.compare);
  if (arguments.config.empty()) throw Error(ExitCode::kUsage, "expected a configuration, or --compare with two digest files; see switchyard verify --help");
  for (const int number : arguments.ranks) {
    if (number < 1) throw Error(ExitCode::kUsage, fmt::format("--ranks holds {}, but numbers of ranks are at least 1", number));
  }
  for (const int number : arguments.threads) {
    if (number < 1) throw Error(ExitCode::kUsage, fmt::format("--threads holds {}, but numbers of threads are at least 1", number));
  }
  return certify(arguments);
}

}  // namespace

void add_verify(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("verify", "Prove that a configuration computes the same bits on other numbers of ranks and threads");
  command.add_option("CONFIG", arguments->config, "Configuration, a .textproto file")->type_name("FILE");
  command.add_option("--set", arguments->overrides, "Override a field: train.lanes=4. May be repeated")->allow_extra_args(false)->type_name("FIELD=VALUE");
  command.add_option("--ranks", arguments->ranks, "Numbers of ranks, such as 1,2,4")->delimiter(',')->capture_default_str();
  command.add_option("--threads", arguments->threads, "Numbers of threads of a rank, such as 1,2")->delimiter(',')->capture_default_str();
  command.add_option("--steps", arguments->steps, "Steps of each run (default: the configuration's)")->check(CLI::PositiveNumber);
  command.add_option("--keep", arguments->keep, "Keep the digest files in this folder")->type_name("DIR");
  command.add_option("--compare", arguments->compare, "Compare two digest files that train --digests wrote elsewhere")->expected(2)->type_name("FILE FILE");
  commands.push_back({&command, [arguments] { return verify(*arguments); }});
}

}  // namespace switchyard
