// What token files and example files share: digests, the name of the split, and tokens of two or four bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "src/data/digest.h"
#include "src/data/file.h"

namespace switchyard {

void append_digest(std::string& bytes, const Digest& digest);
// Takes one off the front. `bytes` must hold one.
Digest take_digest(std::string_view& bytes);

// The name of a split, filled with zeros.
inline constexpr int64_t kSplitBytes = 16;
bool good_split_name(std::string_view name);  // 1 to 15 letters, digits or -
void append_split_name(std::string& bytes, std::string_view name);
std::string take_split_name(std::string_view& bytes);

// 2 where the vocabulary is at most 65,536, else 4.
int64_t token_bytes_for(int64_t vocabulary);
void append_token(std::string& bytes, int32_t token, int64_t token_bytes);

struct TokenFormat {
  int64_t token_bytes = 2;
  int64_t vocabulary = 0;
};

// Reads tokens from byte `offset` on. Allocates nothing. False: one of them is outside the vocabulary.
bool read_tokens(const InputFile& file, int64_t offset, TokenFormat format, std::span<int32_t> into);

// What the tokens in bytes begin .. end - 1 are: their digest, and how many are outside the vocabulary, or are `wanted`.
struct TokenScan {
  Digest digest;
  int64_t outside = 0, found = 0;
};
TokenScan scan_tokens(const InputFile& file, int64_t begin, int64_t end, TokenFormat format, int32_t wanted);

}  // namespace switchyard
