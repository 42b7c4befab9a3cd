#include "src/profile/traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "src/base/checked.h"

namespace switchyard {
namespace {

constexpr int64_t kLargestPair = int64_t{1} << 40;
constexpr size_t kMostSizes = 64;

Error bad_size(std::string_view text) {
  return Error(ExitCode::kUsage, fmt::format("'{}' is no size: give bytes from 1 to 1024 GiB, such as 65536, 64KiB or 4MiB", text));
}

// The busiest rank's bytes to or from others on links of one kind.
int64_t busiest(const Traffic& traffic, std::span<const int> hosts, bool within) {
  int64_t most = 0;
  for (int rank = 0; rank < traffic.ranks; ++rank) {
    int64_t out = 0, in = 0;
    for (int peer = 0; peer < traffic.ranks; ++peer) {
      if (peer == rank || (hosts[static_cast<size_t>(peer)] == hosts[static_cast<size_t>(rank)]) != within) continue;
      out += traffic.at(rank, peer);
      in += traffic.at(peer, rank);
    }
    most = std::max({most, out, in});
  }
  return most;
}

int64_t rounded(double bytes) {
  if (!(bytes < static_cast<double>(kLargestPair)))
    throw Error(ExitCode::kUsage, fmt::format("a pair of ranks would exchange {:.3g} bytes; use smaller sizes", bytes));
  return round_up(static_cast<int64_t>(bytes), kPayloadMultiple);
}

}  // namespace

int64_t Traffic::total() const {
  int64_t sum = 0;
  for (const int64_t cell : bytes) sum = checked_add(sum, cell);
  return sum;
}

int64_t Traffic::sent(int rank) const {
  int64_t sum = 0;
  for (int peer = 0; peer < ranks; ++peer) sum = checked_add(sum, at(rank, peer));
  return sum;
}

int64_t Traffic::received(int rank) const {
  int64_t sum = 0;
  for (int peer = 0; peer < ranks; ++peer) sum = checked_add(sum, at(peer, rank));
  return sum;
}

int64_t Traffic::largest() const {
  int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank) most = std::max({most, sent(rank), received(rank)});
  return most;
}

const char* name(Pairs pairs) {
  constexpr const char* kNames[] = {"all", "within", "between"};
  return kNames[static_cast<int>(pairs)];
}

std::string Pattern::text() const {
  switch (kind) {
    case PatternKind::kUniform: return "uniform";
    case PatternKind::kZipf: return fmt::format("zipf:{}", exponent);
    case PatternKind::kMatrix: return "matrix:" + file;
  }
  return {};
}

Pattern parse_pattern(std::string_view text) {
  Pattern pattern;
  if (text == "uniform") return pattern;
  const size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon), rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (kind == "zipf") {
    pattern.kind = PatternKind::kZipf;
    const auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), pattern.exponent);
    if (failed == std::errc() && end == rest.data() + rest.size() && pattern.exponent >= 0 && pattern.exponent <= 10) return pattern;
    throw Error(ExitCode::kUsage, fmt::format("the exponent of --pattern {} must be a number from 0 to 10, as in zipf:1.2", text));
  }
  if (kind == "matrix" && !rest.empty()) {
    pattern.kind = PatternKind::kMatrix;
    pattern.file = rest;
    return pattern;
  }
  throw Error(ExitCode::kUsage, fmt::format("--pattern must be uniform, zipf:S or matrix:FILE but is '{}'", text));
}

std::vector<int64_t> parse_matrix(std::string_view text, int ranks, const std::string& path) {
  const size_t cells = static_cast<size_t>(ranks) * static_cast<size_t>(ranks);
  std::vector<int64_t> matrix;
  for (size_t line = 1; !text.empty(); ++line) {
    std::string_view rest = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), rest.size() + 1));
    if (rest.starts_with('#')) continue;
    while (true) {
      rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(" \t\r")));
      if (rest.empty()) break;
      const std::string_view word = rest.substr(0, rest.find_first_of(" \t\r"));
      rest.remove_prefix(word.size());
      int64_t value = 0;
      const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), value);
      if (failed != std::errc() || end != word.data() + word.size() || value < 0 || value > kLargestPair) {
        throw Error(ExitCode::kData, fmt::format("{}:{}: expected bytes from 0 to 2^40 but found '{}'", path, line, word.substr(0, 40)));
      }
      if (matrix.size() == cells)
        throw Error(ExitCode::kData, fmt::format("{} has more than {} x {} numbers: write one for each pair of the {} ranks", path, ranks, ranks, ranks));
      matrix.push_back(value);
    }
  }
  if (matrix.size() == cells) return matrix;
  throw Error(ExitCode::kData, fmt::format("{} has {} numbers where {} ranks need {}: write one for each pair", path, matrix.size(), ranks, cells));
}

Traffic make_traffic(const Pattern& pattern, int ranks, int64_t pair_bytes) {
  Traffic traffic(ranks);
  const double pairs = static_cast<double>(ranks) * ranks, bytes = static_cast<double>(pair_bytes);
  std::vector<double> shares(traffic.bytes.size(), 1 / pairs);  // of all bytes
  if (pattern.kind == PatternKind::kZipf) {
    double sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += std::pow(rank + 1, -pattern.exponent);
    for (size_t cell = 0; cell < shares.size(); ++cell)
      shares[cell] = std::pow(static_cast<double>(cell % static_cast<size_t>(ranks)) + 1, -pattern.exponent) / sum / ranks;
  }
  if (pattern.kind == PatternKind::kMatrix) {
    check(pattern.matrix.size() == shares.size(), "make_traffic: the matrix was not read");
    double sum = 0;
    for (const int64_t cell : pattern.matrix) sum += static_cast<double>(cell);
    for (size_t cell = 0; cell < shares.size(); ++cell) shares[cell] = sum > 0 ? static_cast<double>(pattern.matrix[cell]) / sum : 0;
    if (pair_bytes == 0) {
      for (size_t cell = 0; cell < shares.size(); ++cell) traffic.bytes[cell] = round_up(pattern.matrix[cell], kPayloadMultiple);
      return traffic;
    }
  }
  for (size_t cell = 0; cell < shares.size(); ++cell) {
    const double share = pattern.kind == PatternKind::kUniform ? bytes : bytes * pairs * shares[cell];
    traffic.bytes[cell] = rounded(share);
  }
  return traffic;
}

Traffic only(const Traffic& traffic, Pairs pairs, std::span<const int> hosts) {
  Traffic result = traffic;
  if (pairs == Pairs::kAll) return result;
  for (int from = 0; from < traffic.ranks; ++from) {
    for (int to = 0; to < traffic.ranks; ++to) {
      const bool within = hosts[static_cast<size_t>(from)] == hosts[static_cast<size_t>(to)];
      if (within != (pairs == Pairs::kWithinHosts)) result.at(from, to) = 0;
    }
  }
  return result;
}

WireBytes wire_bytes(const Traffic& traffic, std::span<const int> hosts) {
  WireBytes wire{busiest(traffic, hosts, true), busiest(traffic, hosts, false), 1};
  const double mean = static_cast<double>(traffic.total()) / std::max(1, traffic.ranks);
  if (mean > 0) wire.imbalance = static_cast<double>(traffic.largest()) / mean;
  return wire;
}

int64_t parse_bytes(std::string_view text) {
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || value < 1) throw bad_size(text);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  int shift = 0;
  if (unit == "K" || unit == "KiB") {
    shift = 10;
  } else if (unit == "M" || unit == "MiB") {
    shift = 20;
  } else if (unit == "G" || unit == "GiB") {
    shift = 30;
  } else if (!unit.empty() && unit != "B") {
    throw bad_size(text);
  }
  if (value > kLargestPair >> shift) throw bad_size(text);
  return value << shift;
}

std::vector<int64_t> parse_sizes(std::string_view text, int64_t factor) {
  if (factor < 2) throw Error(ExitCode::kUsage, fmt::format("--factor is {} but sizes grow by at least 2", factor));
  const size_t colon = text.find(':');
  const int64_t first = parse_bytes(text.substr(0, colon)), last = colon == std::string_view::npos ? first : parse_bytes(text.substr(colon + 1));
  if (last < first) throw Error(ExitCode::kUsage, fmt::format("--sizes {} begins with the larger size; write the smaller one first", text));
  std::vector<int64_t> sizes;
  for (int64_t size = first; size <= last && sizes.size() < kMostSizes;) {
    sizes.push_back(size);
    if (size > last / factor) break;
    size *= factor;
  }
  return sizes;
}

}  // namespace switchyard
