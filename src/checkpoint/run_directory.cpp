#include "src/checkpoint/run_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "comm/agree.h"
#include "src/checkpoint/list.h"

namespace switchyard {
namespace {

constexpr const char* kLock = "run.lock";
constexpr const char* kConfig = "config.textproto";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr auto kPoll = std::chrono::milliseconds(50);

Descriptor make_run_directory(const std::string& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed) throw io_error("make the run directory", path, failed.value());
  return open_directory(path);
}

// An open-file-description lock: it belongs to this descriptor, whichever thread or library closes others.
bool try_lock(int file) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(file, F_OFD_SETLK, &whole) == 0;
}

Descriptor lock_run(int directory, const std::string& path, double wait_seconds) {
  Descriptor file(::openat(directory, kLock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file) throw io_error("open", path + "/" + kLock, errno);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_seconds);
  while (!try_lock(file.get())) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) throw io_error("lock", path + "/" + kLock, errno);
    if (std::chrono::steady_clock::now() >= deadline) {
      char holder[64] = {};
      const ssize_t bytes = ::pread(file.get(), holder, sizeof(holder) - 1, 0);
      throw Error(ExitCode::kUsage, fmt::format("run directory {} is in use by another run{}{}; wait until it ends, or choose another directory with --run",
                                                path, bytes > 0 ? " " : "", bytes > 0 ? holder : ""));
    }
    std::this_thread::sleep_for(kPoll);
  }
  // Who holds it is a courtesy to the reader of the message above: a failure to write it is no failure.
  char host[65] = "unknown";
  ::gethostname(host, sizeof(host) - 1);
  const std::string holder = fmt::format("(process {} on {})", ::getpid(), host).substr(0, 63);
  [[maybe_unused]] const bool written = ::ftruncate(file.get(), 0) == 0 && ::pwrite(file.get(), holder.data(), holder.size(), 0) > 0;
  return file;
}

bool exists(int directory, const char* name) {
  struct stat status {};
  return ::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

// The step of a line, or -1 where the line is not one that metrics.jsonl has.
int64_t step_of_line(const std::string& line) {
  const nlohmann::json value = nlohmann::json::parse(line, nullptr, false);
  if (!value.is_object()) return -1;
  const auto step = value.find("step");
  return step != value.end() && step->is_number_unsigned() ? step->get<int64_t>() : -1;
}

// Line by line through a file, in bounded memory.
class LineReader {
 public:
  LineReader(int file, std::string name) : file_(file), name_(std::move(name)) {}

  // A whole line without its end; false at the end of the file, and for a last line that has none.
  bool next(std::string& line) {
    for (size_t searched = begin_;;) {
      const size_t end = buffer_.find('\n', searched);
      if (end != std::string::npos) {
        line = buffer_.substr(begin_, end - begin_);
        begin_ = end + 1;
        return true;
      }
      buffer_.erase(0, begin_);
      begin_ = 0;
      searched = buffer_.size();
      if (searched > kMaxLine) throw Error(ExitCode::kData, fmt::format("{} has a line of more than {} bytes; move the file away", name_, kMaxLine));
      char part[1 << 16];
      const ssize_t count = ::read(file_, part, sizeof(part));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw io_error("read", name_, errno);
      if (count == 0) return false;
      buffer_.append(part, static_cast<size_t>(count));
    }
  }

 private:
  static constexpr size_t kMaxLine = size_t{16} << 20;
  int file_;
  std::string name_;
  std::string buffer_;
  size_t begin_ = 0;  // of what has not been handed out
};

}  // namespace

RunDirectory::RunDirectory(std::string path, bool resume, double wait_seconds)
    : path_(std::move(path)), directory_(make_run_directory(path_)), lock_(lock_run(directory_.get(), path_, wait_seconds)) {
  const bool holds_run = exists(directory_.get(), kConfig) || exists(directory_.get(), kMetrics) || has_checkpoints();
  if (holds_run && !resume) {
    throw Error(ExitCode::kUsage,
                fmt::format("run directory {} already holds a run; continue it with --resume, choose another with --run, or remove it", path_));
  }
  FileCalls calls;
  remove_leftovers(calls, directory_.get());
}

bool RunDirectory::has_checkpoints() const { return !list_checkpoints_at(directory_.get()).empty(); }

void RunDirectory::store_config(const std::string& text) {
  FileCalls calls;
  replace_file(calls, directory_.get(), kConfig, text);
}

std::string RunDirectory::read_config() const { return exists(directory_.get(), kConfig) ? read_small_file(directory_.get(), kConfig, kMaxConfigBytes) : ""; }

// Lines are in the order of their steps, so the file is kept up to the first line that is not wanted or not whole, and
// nothing is rewritten where all are.
void RunDirectory::cut_metrics(int64_t step) {
  if (!exists(directory_.get(), kMetrics)) return;
  const std::string name = path_ + "/" + kMetrics;
  int64_t bytes = 0;
  const Descriptor file = open_regular_file(directory_.get(), kMetrics, bytes);
  int64_t keep = 0;
  LineReader lines(file.get(), name);
  for (std::string line; lines.next(line);) {
    const int64_t found = step_of_line(line);
    if (found < 0 || found > step) break;
    keep += static_cast<int64_t>(line.size()) + 1;
  }
  if (keep == bytes) return;
  FileCalls calls;
  const std::string temporary = std::string(".tmp-") + kMetrics;
  calls.remove(directory_.get(), temporary.c_str(), 0);
  Descriptor to(calls.create(directory_.get(), temporary.c_str()));
  if (!to) throw io_error("create", temporary, errno);
  std::string part;
  for (int64_t at = 0; at < keep; at += static_cast<int64_t>(part.size())) {
    part.resize(static_cast<size_t>(std::min<int64_t>(keep - at, 1 << 20)));
    read_exactly(file.get(), at, part.data(), static_cast<int64_t>(part.size()), name);
    write_all(calls, to.get(), part.data(), part.size(), temporary);
  }
  sync_or_throw(calls, to.get(), temporary);
  close_or_throw(calls, std::move(to), temporary);
  if (calls.rename(directory_.get(), temporary.c_str(), kMetrics, 0) != 0) throw io_error("replace", name, errno);
  sync_or_throw(calls, directory_.get(), path_);
}

std::unique_ptr<RunDirectory> open_run(Communicator& communicator, const std::string& path, bool resume, double wait_seconds) {
  std::unique_ptr<RunDirectory> run;
  agree_on(communicator, {"open run"}, [&] {
    if (communicator.rank() == 0) run = std::make_unique<RunDirectory>(path, resume, wait_seconds);
  });
  return run;
}

}  // namespace switchyard
