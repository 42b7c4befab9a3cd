#include "src/train/digests.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "src/checkpoint/digest.h"

namespace switchyard {
namespace {

std::string advice(int number) { return std::string(std::strerror(number)) + "; check the path and the room on the disk"; }

constexpr const char* kScalars = "loss";  // the name of a step's line of scalars

struct Line {
  int64_t step = 0;
  std::string name;  // of a tensor, or kScalars
  std::string rest;
};

std::vector<Line> read_digests(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ExitCode::kInputOutput, fmt::format("expected a digest file at {}, found none that can be read: {}", path, advice(errno)));
  std::vector<Line> lines;
  std::string text;
  while (std::getline(file, text)) {
    Line line;
    std::istringstream words(text);
    if (!(words >> line.step >> line.name)) {
      throw Error(ExitCode::kData, fmt::format("{} line {} is not a line of a digest file; write it with train --digests", path, lines.size() + 1));
    }
    std::getline(words, line.rest);
    lines.push_back(line);
  }
  if (lines.empty()) throw Error(ExitCode::kData, fmt::format("{} holds no digest; write it with train --digests", path));
  return lines;
}

std::string short_digest(const std::vector<std::string>& lines) { return digest_of(lines).substr(0, 16); }

}  // namespace

DigestWriter::DigestWriter(Communicator& communicator, const std::string& path) : communicator_(communicator), path_(path) {
  if (communicator.rank() != 0) return;
  file_.reset(std::fopen(path.c_str(), "w"));
  if (!file_) throw Error(ExitCode::kInputOutput, fmt::format("cannot write digests to {}: {}", path, advice(errno)));
}

void DigestWriter::line(const std::string& text) {
  if (file_) fmt::print(file_.get(), "{}\n", text);
}

void DigestWriter::write_scalars(int64_t step, double loss, double norm, int64_t tokens) {
  line(fmt::format("{} {} {:a} norm {:a} tokens {}", step, kScalars, loss, norm, tokens));
}

void DigestWriter::write_state(int64_t step, const State& state) {
  for (const std::string& text : digest_lines(communicator_, state)) line(fmt::format("{} {}", step, text));
}

void DigestWriter::close() {
  if (!file_) return;
  const bool failed = std::ferror(file_.get()) != 0;
  if (std::fclose(file_.release()) != 0 || failed) throw Error(ExitCode::kInputOutput, fmt::format("cannot write digests to {}: {}", path_, advice(errno)));
}

std::string DigestDifference::sentence() const {
  std::string text = fmt::format("step {} differs", step);
  if (!scalars.empty()) text += ": " + scalars;
  if (tensor.empty()) return text + "; no tensor differs";
  if (tensor_step != step) text += fmt::format("; tensors differ from step {} on", tensor_step);
  return text + fmt::format("; first tensor: {}", tensor) + (tensors > 1 ? fmt::format(", and {} more", tensors - 1) : "");
}

std::optional<DigestDifference> compare_digests(const std::string& path_a, const std::string& path_b) {
  const std::vector<Line> a = read_digests(path_a), b = read_digests(path_b);
  std::optional<DigestDifference> found;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (found && !found->tensor.empty() && a[i].step != found->tensor_step) break;
    if (a[i].step != b[i].step || a[i].name != b[i].name) {
      throw Error(ExitCode::kData, fmt::format("{} and {} describe different runs: line {} is about {} and about {}; compare runs of one configuration", path_a,
                                               path_b, i + 1, a[i].name, b[i].name));
    }
    if (a[i].rest == b[i].rest) continue;
    if (!found) {
      found.emplace();
      found->step = a[i].step;
    }
    if (a[i].name == kScalars) {
      if (found->scalars.empty()) found->scalars = fmt::format("loss{} against{}", a[i].rest, b[i].rest);
      continue;
    }
    if (found->tensor.empty()) {
      found->tensor = a[i].name;
      found->tensor_step = a[i].step;
    }
    ++found->tensors;
  }
  if (!found && a.size() != b.size()) {
    throw Error(ExitCode::kData, fmt::format("{} has {} lines and {} has {}; compare runs of the same length", path_a, a.size(), path_b, b.size()));
  }
  return found;
}

DigestSummary summarize_digests(const std::string& path) {
  std::vector<std::string> loss, gradients, optimizer, weights;
  DigestSummary summary;
  for (const Line& line : read_digests(path)) {
    const std::string text = fmt::format("{} {}{}", line.step, line.name, line.rest);
    summary.steps = std::max(summary.steps, line.step);
    if (line.name == kScalars) {
      loss.push_back(text);
    } else if (line.name.starts_with("gradient.")) {
      gradients.push_back(text);
    } else if (line.name.starts_with(kOptimizerPrefix)) {
      optimizer.push_back(text);
    } else {
      weights.push_back(text);
    }
  }
  summary.loss = short_digest(loss);
  summary.gradients = short_digest(gradients);
  summary.optimizer = short_digest(optimizer);
  summary.weights = short_digest(weights);
  return summary;
}

}  // namespace switchyard
