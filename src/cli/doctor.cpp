// switchyard doctor: what this machine offers, and what is missing.
#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "comm/accelerator.h"
#include "comm/host.h"
#include "comm/mpi_api.h"
#include "comm/mpi_session.h"
#include "kernels/backend.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"

namespace switchyard {
namespace {

enum class State { kFine, kNote, kMissing };

struct Finding {
  std::string name, value;
  State state = State::kFine;
  std::string advice;  // what to do about it; empty where nothing
};

constexpr int64_t kMiB = int64_t{1} << 20;

// The value of the first line "key : value" of a file of /proc; empty if there is none.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0 || line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

bool has_word(const std::string& words, const std::string& word) {
  std::istringstream stream(words);
  for (std::string each; stream >> each;) {
    if (each == word) return true;
  }
  return false;
}

Finding instructions() {
  const std::string flags = proc_value("/proc/cpuinfo", "flags");
  std::string found;
  for (const auto& [flag, name] :
       {std::pair{"avx2", "AVX2"}, {"fma", "FMA"}, {"avx512f", "AVX-512"}, {"avx512_bf16", "AVX-512 BF16"}, {"amx_bf16", "AMX BF16"}}) {
    if (has_word(flags, flag)) found += (found.empty() ? "" : ", ") + std::string(name);
  }
  const bool enough = has_word(flags, "avx2") && has_word(flags, "fma");
  if (!enough) return {"instructions", found, State::kMissing, "x86-64-v3 (AVX2 and FMA) is needed; use another machine"};
  if (!cpu_has_fast_bf16()) return {"instructions", found, State::kNote, "no fast bf16 products: precision AUTO means F32 here"};
  return {"instructions", found, State::kFine, ""};
}

std::string first_line(const std::string& text) { return text.substr(0, text.find_first_of(",\n")); }

Finding mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return {"MPI", "", State::kMissing, "the library does not answer; reinstall libopenmpi3"};
  return {"MPI", first_line(text.data()), State::kFine, ""};
}

Finding program_in_path(const char* program, const char* package) {
  std::istringstream folders(std::getenv("PATH") == nullptr ? "" : std::getenv("PATH"));
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string path = folder + "/" + program;
    if (::access(path.c_str(), X_OK) == 0) return {program, path, State::kFine, ""};
  }
  return {program, "not found", State::kMissing, fmt::format("runs on several ranks need it: apt-get install {}", package)};
}

Finding transport() {
  const int64_t room = free_shared_memory();
  const std::string value = fmt::format("{} MiB of shared memory free", room / kMiB);
  if (room < 64 * kMiB) return {"transport", value, State::kNote, "ranks of this host will use MPI's messages, which are slower; give /dev/shm more room"};
  return {"transport", "WINDOW; " + value, State::kFine, ""};
}

Finding memory() {
  std::istringstream available(proc_value("/proc/meminfo", "MemAvailable"));
  int64_t kib = 0;
  available >> kib;
  std::string value = fmt::format("{} MiB available", kib / 1024);
  std::ifstream group("/sys/fs/cgroup/memory.max");
  int64_t limit = 0;
  if (group >> limit) value += fmt::format(", limited to {} MiB by the control group", limit / kMiB);
  return {"memory", value, State::kFine, ""};
}

Finding limit(const char* name, decltype(RLIMIT_NOFILE) resource, rlim_t wanted, const char* advice) {
  rlimit values{};
  if (::getrlimit(resource, &values) != 0 || values.rlim_cur == RLIM_INFINITY) return {name, "unlimited", State::kFine, ""};
  const std::string value = std::to_string(values.rlim_cur);
  if (values.rlim_cur < wanted) return {name, value, State::kNote, advice};
  return {name, value, State::kFine, ""};
}

Finding launcher() {
  const Launch launch = read_launch(process_environment);
  if (launch.ranks <= 1) return {"launcher", "none: one rank", State::kFine, ""};
  return {"launcher", fmt::format("{} ranks, said by {}", launch.ranks, launch.said_by), State::kFine, ""};
}

Finding corpus() {
  constexpr const char* kPath = "/usr/share/dictd/gcide.dict.dz";
  if (::access(kPath, R_OK) == 0) return {"corpus", kPath, State::kFine, ""};
  return {"corpus", "dict-gcide is not installed", State::kNote, "the demonstration reads it: apt-get install dict-gcide"};
}

// What the plug-in tells of GPUs and their libraries, or why there are none.
std::vector<Finding> gpus() {
  std::string sentence;
  const AcceleratorPlugin* plugin = open_accelerator_plugin(sentence);
  if (plugin == nullptr) return {{"GPU", sentence, State::kNote, ""}};
  std::vector<Finding> findings;
  if (plugin->devices(sentence) == 0) findings.push_back({"GPU", sentence, State::kNote, "device AUTO means the CPU here"});
  std::istringstream lines(plugin->report());
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) findings.push_back({line.substr(0, tab), line.substr(tab + 1), State::kFine, ""});
  }
  return findings;
}

std::vector<Finding> examine() {
  const dnnl_version_t* dnnl = dnnl_version();
  std::vector<Finding> findings{{"processor", proc_value("/proc/cpuinfo", "model name"), State::kFine, ""},
                                {"cores", std::to_string(available_cores(false)), State::kFine, ""},
                                instructions(),
                                {"oneDNN", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch), State::kFine, ""},
                                mpi_library(),
                                program_in_path("mpirun", "openmpi-bin"),
                                transport(),
                                memory(),
                                limit("open files", RLIMIT_NOFILE, 256, "raise it with ulimit -n 1024"),
                                limit("address space", RLIMIT_AS, rlim_t{8} << 30, "raise it with ulimit -v unlimited"),
                                launcher(),
                                corpus()};
  for (Finding& finding : gpus()) findings.push_back(std::move(finding));
  return findings;
}

const char* mark(State state) { return state == State::kFine ? "ok" : state == State::kNote ? "note" : "missing"; }

ExitCode run(bool json) {
  const std::vector<Finding> findings = examine();
  bool whole = true;
  for (const Finding& finding : findings) whole = whole && finding.state != State::kMissing;
  if (json) {
    nlohmann::ordered_json report = {{"ok", whole}, {"version", kVersion}};
    for (const Finding& finding : findings) {
      report["findings"].push_back({{"name", finding.name}, {"value", finding.value}, {"state", mark(finding.state)}, {"advice", finding.advice}});
    }
    fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    for (const Finding& finding : findings) {
      fmt::print("{:<8}{:<15}{}{}{}\n", mark(finding.state), finding.name, finding.value, finding.advice.empty() ? "" : ": ", finding.advice);
    }
    fmt::print("{}\n", whole ? "nothing is missing" : "something is missing");
  }
  return whole ? ExitCode::kOk : ExitCode::kFailure;
}

}  // namespace

void add_doctor(CLI::App& program, Commands& commands) {
  const auto json = std::make_shared<bool>(false);
  CLI::App& command = *program.add_subcommand("doctor", "Show what this machine offers and what is missing");
  command.add_flag("--json", *json, "Report as JSON");
  commands.push_back({&command, [json] { return run(*json); }});
}

}  // namespace switchyard
