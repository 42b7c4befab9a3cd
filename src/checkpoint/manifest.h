// MANIFEST.json: what a checkpoint consists of, and the numbers of the run that are not tensors. Its last member is the
// checksum of all that stands before it, so that it is JSON for every reader and complete only if it was written to its
// end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "src/checkpoint/state.h"

namespace switchyard {

inline constexpr const char* kManifestName = "MANIFEST.json";
inline constexpr int kFormatVersion = 1;
inline constexpr int64_t kMaxManifestBytes = int64_t{64} << 20;

struct ManifestFile {
  std::string name;  // plain, as is_safe_name
  int64_t bytes = 0;
  std::string checksum;  // XXH3-128, hexadecimal
};

struct ManifestTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  size_t file = 0;             // index in files
  int64_t begin = 0, end = 0;  // bytes in the file's data section
  std::string checksum;        // XXH3-128, hexadecimal
};

struct Manifest {
  StateInfo info;
  std::string state_digest;  // SHA-256, hexadecimal
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;  // in name order
};

// Throws Error(kData) if a text in it is not UTF-8.
std::string render_manifest(const Manifest& manifest);

// Throws Error(kData) with a sentence unless the text is complete, has exactly the members that the format has, and its
// files, sizes and tensors agree with one another. `path` is for messages.
Manifest parse_manifest(const std::string& text, const std::string& path);

// The start that file `index` must have, header included: it follows from the manifest byte by byte.
std::string expected_start(const Manifest& manifest, size_t index);

}  // namespace switchyard
