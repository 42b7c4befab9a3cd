#include "src/checkpoint/reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/checkpoint/list.h"

namespace switchyard {

std::string read_manifest_text(int directory) { return read_small_file(directory, kManifestName, kMaxManifestBytes); }

SafetensorsFile open_shard(int directory, const Manifest& manifest, size_t index) {
  const ManifestFile& expected = manifest.files[index];
  SafetensorsFile file(directory, expected.name);
  if (file.bytes() != expected.bytes) {
    throw Error(ExitCode::kData, fmt::format("{} has {} bytes where the manifest says {}", expected.name, file.bytes(), expected.bytes));
  }
  if (file.start() != expected_start(manifest, index)) throw Error(ExitCode::kData, expected.name + " has another header than the manifest describes");
  return file;
}

std::vector<size_t> file_order(const Manifest& manifest) {
  std::vector<size_t> order(manifest.tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const ManifestTensor &x = manifest.tensors[a], &y = manifest.tensors[b];
    return std::tie(x.file, x.begin, x.end, x.name) < std::tie(y.file, y.begin, y.end, y.name);
  });
  return order;
}

Manifest sound_manifest(int directory, const std::string& text, int64_t step) {
  Manifest manifest = parse_manifest(text, kManifestName);
  if (step >= 0 && manifest.info.step != step) {
    throw Error(ExitCode::kData, fmt::format("{} is of step {}, and its directory is of another", kManifestName, manifest.info.step));
  }
  for (size_t i = 0; i < manifest.files.size(); ++i) open_shard(directory, manifest, i);
  return manifest;
}

Manifest sound_manifest_at(int run, int64_t step) {
  const Descriptor directory = open_directory_at(run, checkpoint_name(step));
  return sound_manifest(directory.get(), read_manifest_text(directory.get()), step);
}

}  // namespace switchyard
