// The state digest: one number for the whole state, the same on any number of ranks.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "src/checkpoint/state.h"

namespace switchyard {

using Sha256 = std::array<uint8_t, 32>;

Sha256 sha256(const void* data, size_t bytes);

// One line for each tensor, in name order, without the line end:
//   <name> <dtype> <extents joined by x; "scalar" for none> <SHA-256 of block 0> <SHA-256 of block 1> ...
// Owners hash their blocks; only hashes travel. Collective; every rank gets all lines.
std::vector<std::string> digest_lines(Communicator& communicator, const State& state);

// One such line from hashes that are known already.
std::string digest_line(const std::string& name, Dtype dtype, const Shape& shape, const std::vector<Sha256>& blocks);

// SHA-256, in hexadecimal, of the lines, each followed by a line end.
std::string digest_of(const std::vector<std::string>& lines);

// digest_of(digest_lines(...)).
std::string state_digest(Communicator& communicator, const State& state);

}  // namespace switchyard
