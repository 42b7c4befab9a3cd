// What can be said about checkpoints by one process, without a model.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "kernels/memory.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/checksum.h"
#include "src/checkpoint/list.h"
#include "src/checkpoint/reader.h"

namespace switchyard {

std::vector<int64_t> list_checkpoints(const std::string& run) {
  struct stat status {};
  if (::stat(run.c_str(), &status) != 0 && errno == ENOENT) return {};
  return list_checkpoints_at(open_directory(run).get());
}

std::optional<FoundCheckpoint> find_newest_valid(const std::string& run, std::vector<std::string>& warnings) {
  const std::vector<int64_t> steps = list_checkpoints(run);
  if (steps.empty()) return std::nullopt;
  const Descriptor directory = open_directory(run);
  for (int64_t step : steps) {
    const std::string path = run + "/" + checkpoint_name(step);
    try {
      return FoundCheckpoint{path, sound_manifest_at(directory.get(), step)};
    } catch (const Error& error) {
      warnings.push_back(fmt::format("checkpoint {} is damaged and was passed over: {}", path, error.what()));
    }
  }
  throw Error(ExitCode::kData, fmt::format("none of the {} checkpoints of {} is whole; {}; restore one, or start again in another directory", steps.size(), run,
                                           warnings.back()));
}

std::string verify_checkpoint(const std::string& path) {
  const Descriptor directory = open_directory(path);
  const Manifest manifest = sound_manifest(directory.get(), read_manifest_text(directory.get()), -1);
  std::vector<std::string> lines(manifest.tensors.size());
  std::optional<SafetensorsFile> file;
  ChecksumStream file_stream;
  const std::vector<size_t> order = file_order(manifest);
  for (size_t i = 0; i < order.size(); ++i) {
    const ManifestTensor& tensor = manifest.tensors[order[i]];
    const bool first = i == 0 || manifest.tensors[order[i - 1]].file != tensor.file;
    const bool last = i + 1 == order.size() || manifest.tensors[order[i + 1]].file != tensor.file;
    if (first) {
      file.emplace(open_shard(directory.get(), manifest, tensor.file));
      file_stream.restart();
      file_stream.add(file->start().data(), file->start().size());
    }
    ChecksumStream tensor_stream;
    std::vector<Sha256> hashes;
    const StateTensor whole{tensor.name, tensor.dtype, tensor.shape, {}};
    int64_t at = tensor.begin;
    for (const BlockRange& range : blocks_of(tensor.shape)) {
      Buffer block(range.rows * whole.row_elements() * size_of(tensor.dtype));
      file->read(at, block.data(), block.bytes());
      at += block.bytes();
      tensor_stream.add(block.data(), static_cast<size_t>(block.bytes()));
      file_stream.add(block.data(), static_cast<size_t>(block.bytes()));
      hashes.push_back(sha256(block.data(), static_cast<size_t>(block.bytes())));
    }
    if (to_hex(tensor_stream.value()) != tensor.checksum)
      throw Error(ExitCode::kData, fmt::format("tensor '{}' of {} does not have its checksum", tensor.name, path));
    const ManifestFile& expected = manifest.files[tensor.file];
    if (last && to_hex(file_stream.value()) != expected.checksum)
      throw Error(ExitCode::kData, fmt::format("{} of {} does not have its checksum", expected.name, path));
    lines[order[i]] = digest_line(tensor.name, tensor.dtype, tensor.shape, hashes);
  }
  const std::string digest = digest_of(lines);
  if (digest != manifest.state_digest)
    throw Error(ExitCode::kData, fmt::format("the state digest of {} is {} where the manifest says {}", path, digest, manifest.state_digest));
  return digest;
}

}  // namespace switchyard
