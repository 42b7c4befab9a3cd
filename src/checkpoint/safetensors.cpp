#include "src/checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {

SafetensorsFile::SafetensorsFile(int directory, const std::string& name) {
  int64_t bytes = 0;
  Descriptor file = open_regular_file(directory, name, bytes);
  open(std::move(file), name, bytes);
}

SafetensorsFile::SafetensorsFile(const std::string& path) {
  const size_t slash = path.rfind('/');
  const Descriptor directory = open_directory(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
  int64_t bytes = 0;
  Descriptor file = open_regular_file(directory.get(), path.substr(slash == std::string::npos ? 0 : slash + 1), bytes);
  open(std::move(file), path, bytes);
}

void SafetensorsFile::open(Descriptor file, const std::string& name, int64_t bytes) {
  name_ = name;
  file_ = std::move(file);
  bytes_ = bytes;
  start_.resize(static_cast<size_t>(std::min<int64_t>(8, bytes)));
  read_exactly(file_.get(), 0, start_.data(), static_cast<int64_t>(start_.size()), name_);
  const int64_t header = safetensors_header_bytes(start_, bytes, name_);
  start_.resize(static_cast<size_t>(8 + header));
  read_exactly(file_.get(), 8, start_.data() + 8, header, name_);
  entries_ = parse_safetensors_header(std::string_view(start_).substr(8), bytes - 8 - header, name_);
}

const SafetensorsEntry& SafetensorsFile::find(const std::string& tensor) const {
  for (const SafetensorsEntry& entry : entries_) {
    if (entry.name == tensor) return entry;
  }
  throw Error(ExitCode::kData, name_ + " has no tensor '" + tensor + "'");
}

void SafetensorsFile::read(int64_t offset, void* data, int64_t bytes) const {
  read_exactly(file_.get(), static_cast<int64_t>(start_.size()) + offset, data, bytes, name_);
}

void SafetensorsFile::read(const std::string& tensor, Tensor out) const {
  const SafetensorsEntry& entry = find(tensor);
  check(out.contiguous() && out.device() == Device::kHost, "SafetensorsFile::read: the tensor must be contiguous, on the host");
  if (entry.dtype != out.dtype() || entry.shape != out.shape()) {
    throw Error(ExitCode::kData, "tensor '" + tensor + "' of " + name_ + " has another dtype or shape than what it is read into");
  }
  read(entry.begin, out.data(), out.bytes());
}

}  // namespace switchyard
