// Traffic: how many bytes every rank sends to every rank, and what that asks of the links between them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Payload is moved in multiples of this.
inline constexpr int64_t kPayloadMultiple = 16;

struct Traffic {
  int ranks = 0;
  std::vector<int64_t> bytes;  // [from, to]

  Traffic() = default;
  explicit Traffic(int size) : ranks(size), bytes(static_cast<size_t>(size) * static_cast<size_t>(size), 0) {}
  int64_t& at(int from, int to) { return bytes[static_cast<size_t>(from) * static_cast<size_t>(ranks) + static_cast<size_t>(to)]; }
  int64_t at(int from, int to) const { return bytes[static_cast<size_t>(from) * static_cast<size_t>(ranks) + static_cast<size_t>(to)]; }
  int64_t total() const;
  int64_t sent(int rank) const;      // its own rows included
  int64_t received(int rank) const;  // its own rows included
  // Of the rank that sends, or receives, the most.
  int64_t largest() const;
};

enum class PatternKind : uint8_t { kUniform, kZipf, kMatrix };

// Which pairs of ranks exchange anything.
enum class Pairs : uint8_t { kAll, kWithinHosts, kBetweenHosts };
const char* name(Pairs pairs);

// What a pattern is, as the command line names it: "uniform", "zipf:S", "matrix:FILE".
struct Pattern {
  PatternKind kind = PatternKind::kUniform;
  double exponent = 0;          // of Zipf: rank j is asked for 1 / (j + 1)^exponent as often as rank 0
  std::string file;             // of the matrix
  std::vector<int64_t> matrix;  // [P, P] bytes, as parse_matrix reads it

  std::string text() const;
};
// Throws Error(kUsage). The matrix is not read here.
Pattern parse_pattern(std::string_view text);

// A square matrix of whole numbers of bytes, row i what rank i sends, separated by white space; lines that begin with #
// are notes. Throws Error(kData) that names `path` unless there are ranks * ranks numbers.
std::vector<int64_t> parse_matrix(std::string_view text, int ranks, const std::string& path);

// The pattern with `pair_bytes` bytes per pair of ranks on the average, pairs of a rank with itself included; each number
// rounded up to kPayloadMultiple. A matrix stays as it is where pair_bytes is 0. Throws Error(kUsage) beyond 64 bits.
Traffic make_traffic(const Pattern& pattern, int ranks, int64_t pair_bytes);

// The same without the pairs that are not meant. `hosts` [P] gives each rank's host.
Traffic only(const Traffic& traffic, Pairs pairs, std::span<const int> hosts);

// What crosses the links, own rows left out: of the rank that sends or receives the most.
struct WireBytes {
  int64_t within = 0;    // hosts
  int64_t between = 0;   // hosts
  double imbalance = 1;  // bytes of the busiest rank over the mean of all
};
WireBytes wire_bytes(const Traffic& traffic, std::span<const int> hosts);

// "65536", "64KiB", "4MiB:..." without the colon: a number of bytes. K, M and G are the same as KiB, MiB and GiB.
// Throws Error(kUsage).
int64_t parse_bytes(std::string_view text);
// "4KiB:4MiB" or one size, by `factor`. Throws Error(kUsage).
std::vector<int64_t> parse_sizes(std::string_view text, int64_t factor);

}  // namespace switchyard
