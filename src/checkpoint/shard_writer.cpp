#include "src/checkpoint/shard_writer.h"

#include <cerrno>

#include "src/base/checked.h"
#include "src/checkpoint/safetensors.h"

namespace switchyard {

ShardWriter::ShardWriter(FileCalls& calls, int directory, const State& state, const WritePlan& plan, int writer)
    : calls_(calls), directory_(directory), state_(state), plan_(plan) {
  size_t tensors = 0;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    if (plan.files[i].writer != writer) continue;
    files_.push_back(i);
    tensors += plan.files[i].tensors.size();
  }
  file_checksums_.reserve(files_.size());
  tensor_checksums_.reserve(tensors);
}

template <class Action>
void ShardWriter::attempt(Action action) {
  if (error_) return;
  try {
    action();
  } catch (const Error& error) {
    error_ = error;
  } catch (const std::exception& error) {
    error_ = Error(ExitCode::kFailure, error.what());
  }
}

void ShardWriter::append(const Piece& piece, const void* data) {
  attempt([&] {
    if (file_ == 0 || plan_.tensors[piece.tensor].file != files_[file_ - 1]) open_next();
    check(current().tensors[tensor_] == piece.tensor, "ShardWriter: another tensor is next");
    write_all(calls_, open_.get(), data, static_cast<size_t>(piece.bytes), current().name);
    file_stream_.add(data, static_cast<size_t>(piece.bytes));
    tensor_stream_.add(data, static_cast<size_t>(piece.bytes));
    tensor_bytes_ += piece.bytes;
    if (tensor_bytes_ < state_[piece.tensor].bytes()) return;
    tensor_checksums_.push_back(tensor_stream_.value());
    tensor_stream_.restart();
    tensor_bytes_ = 0;
    ++tensor_;
  });
}

void ShardWriter::finish() {
  attempt([&] {
    if (file_ > 0) close_current();
    check(file_ == files_.size(), "ShardWriter: a file did not get its bytes");
  });
  open_ = Descriptor();
  if (!error_) return;
  size_t tensors = 0;
  for (size_t file : files_) tensors += plan_.files[file].tensors.size();
  file_checksums_.assign(files_.size(), {});
  tensor_checksums_.assign(tensors, {});
}

// The whole size is asked for before a byte is written: a full disk shows at once.
void ShardWriter::open_next() {
  if (file_ > 0) close_current();
  ++file_;
  std::vector<SafetensorsEntry> entries;
  for (size_t index : current().tensors) {
    const ManifestTensor& tensor = plan_.tensors[index];
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.begin, tensor.end});
  }
  const std::string start = render_safetensors_header(std::move(entries));
  open_ = Descriptor(calls_.create(directory_, current().name.c_str()));
  if (!open_) throw io_error("create", current().name, errno);
  if (calls_.reserve(open_.get(), checked_add(static_cast<int64_t>(start.size()), current().data_bytes)) != 0)
    throw io_error("reserve room for", current().name, errno);
  write_all(calls_, open_.get(), start.data(), start.size(), current().name);
  file_stream_.restart();
  file_stream_.add(start.data(), start.size());
  tensor_ = 0;
  tensor_bytes_ = 0;
  tensor_stream_.restart();
}

void ShardWriter::close_current() {
  check(tensor_ == current().tensors.size(), "ShardWriter: a tensor did not get all its bytes");
  file_checksums_.push_back(file_stream_.value());
  sync_or_throw(calls_, open_.get(), current().name);
  close_or_throw(calls_, std::move(open_), current().name);
}

}  // namespace switchyard
