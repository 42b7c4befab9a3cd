// Saving: a stage directory is filled by all ranks, described by rank 0, and renamed. The rename is the commit.
#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "comm/agree.h"
#include "kernels/memory.h"
#include "src/base/checked.h"
#include "src/checkpoint/broadcast.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/list.h"
#include "src/checkpoint/safetensors.h"
#include "src/checkpoint/shard_writer.h"

namespace switchyard {
namespace {

class Saving {
 public:
  Saving(Communicator& communicator, const std::string& run, const State& state, FileCalls& calls)
      : comm_(communicator.host()), run_path_(run), state_(state), calls_(calls), plan_(plan_files(state, communicator.size())) {}

  SavedCheckpoint save(const StateInfo& info, const SaveOptions& options) {
    const std::string name = checkpoint_name(info.step);
    name_stage(name);
    try {
      make_stage();
      ShardWriter writer(calls_, stage_directory_.get(), state_, plan_, comm_.rank());
      write(writer, options.buffer_bytes);
      Manifest manifest = describe(writer, info);
      agree_on(comm_, {"checkpoint commit"}, [&] {
        if (comm_.rank() == 0) commit(manifest, name);
      });
      if (comm_.rank() == 0) retain_checkpoints(calls_, run_.get(), options.keep);
      SavedCheckpoint saved{run_path_ + "/" + name, manifest.state_digest, 0};
      for (const ManifestFile& file : manifest.files) saved.bytes += file.bytes;
      return saved;
    } catch (const AgreedError& error) {
      if (comm_.rank() == 0 && run_) remove_directory(calls_, run_.get(), stage_);
      throw AgreedError(error.code(), fmt::format("checkpoint {}/{} was not saved: {}", run_path_, name, error.what()), error.rank());
    }
  }

 private:
  // The name is rank 0's, and nobody else's clock or process number is in it.
  void name_stage(const std::string& name) {
    if (comm_.rank() == 0) {
      std::random_device random;
      stage_ = fmt::format(".tmp-{}-{:08x}", name, random());
    }
    broadcast_text(comm_, {"checkpoint name"}, stage_, 0);
  }

  void make_stage() {
    agree_on(comm_, {"checkpoint stage"}, [&] {
      if (comm_.rank() != 0) return;
      run_ = open_directory(run_path_);
      if (calls_.make_directory(run_.get(), stage_.c_str()) != 0) throw io_error("make the directory", run_path_ + "/" + stage_, errno);
      sync_or_throw(calls_, run_.get(), run_path_);
    });
    agree_on(comm_, {"checkpoint stage"}, [&] {
      if (!run_) run_ = open_directory(run_path_);
      stage_directory_ = open_directory_at(run_.get(), stage_);
    });
  }

  // Ends with agreement; a rank whose writer failed goes on to the last round.
  void write(ShardWriter& writer, int64_t buffer_bytes) {
    const int ranks = comm_.size();
    const int64_t room = std::max<int64_t>(1, buffer_bytes / ranks / kPieceRow) * kPieceRow;
    std::vector<PieceStream> streams;
    for (int rank = 0; rank < ranks; ++rank) streams.emplace_back(state_, plan_, rank, room);
    while (std::any_of(streams.begin(), streams.end(), [](const PieceStream& stream) { return !stream.done(); })) {
      std::vector<std::vector<Piece>> pieces;
      bool remote = false;
      for (int rank = 0; rank < ranks; ++rank) {
        pieces.push_back(streams[static_cast<size_t>(rank)].next());
        for (const Piece& piece : pieces.back()) remote = remote || owner(piece) != rank;
      }
      if (remote) exchange(pieces, room);
      write_round(writer, pieces[static_cast<size_t>(comm_.rank())]);
    }
    writer.finish();
    agree(comm_, writer.error(), {"checkpoint write"});
  }

  // Pieces of this rank's blocks to the ranks that write them, in each writer's order.
  void exchange(const std::vector<std::vector<Piece>>& pieces, int64_t room) {
    std::vector<Segment> send, receive;
    int64_t rows = 0;
    for (int writer = 0; writer < comm_.size(); ++writer) {
      if (writer == comm_.rank()) continue;
      const int64_t count = rows_from(comm_.rank(), pieces[static_cast<size_t>(writer)]);
      if (count > 0) send.push_back({writer, rows, count});
      rows += count;
    }
    const Tensor outbox = comm_.outbox(OutboxUse::kBucket, Dtype::kI32, rows, kPieceRow / 4);
    char* to = static_cast<char*>(outbox.data());
    for (int writer = 0; writer < comm_.size(); ++writer) {
      if (writer == comm_.rank()) continue;
      for (const Piece& piece : pieces[static_cast<size_t>(writer)]) {
        if (owner(piece) != comm_.rank()) continue;
        const int64_t padded = piece_rows(piece.bytes) * kPieceRow;
        std::memcpy(to, local_bytes(piece), static_cast<size_t>(piece.bytes));
        std::memset(to + piece.bytes, 0, static_cast<size_t>(padded - piece.bytes));
        to += padded;
      }
    }
    arrived_.assign(static_cast<size_t>(comm_.size()), 0);
    int64_t arriving = 0;
    for (int from = 0; from < comm_.size(); ++from) {
      if (from == comm_.rank()) continue;
      arrived_[static_cast<size_t>(from)] = arriving * kPieceRow;
      const int64_t count = rows_from(from, pieces[static_cast<size_t>(comm_.rank())]);
      if (count > 0) receive.push_back({from, arriving, count});
      arriving += count;
    }
    if (inbox_.bytes() == 0) inbox_ = Buffer(room);
    const Tensor inbox = inbox_.tensor(Dtype::kI32, {arriving, kPieceRow / 4});
    comm_.wait(comm_.all_to_all({"checkpoint blocks"}, outbox, send, inbox, receive, Event{}));
  }

  void write_round(ShardWriter& writer, const std::vector<Piece>& mine) {
    for (const Piece& piece : mine) {
      if (owner(piece) == comm_.rank()) {
        writer.append(piece, local_bytes(piece));
        continue;
      }
      int64_t& at = arrived_[static_cast<size_t>(owner(piece))];
      writer.append(piece, static_cast<const char*>(inbox_.data()) + at);
      at += piece_rows(piece.bytes) * kPieceRow;
    }
  }

  // Checksums from the ranks that computed them while writing, and the digest from the owners.
  Manifest describe(const ShardWriter& writer, const StateInfo& info) {
    Manifest manifest;
    manifest.info = info;
    manifest.info.ranks = comm_.size();
    manifest.state_digest = state_digest(comm_, state_);
    std::vector<int64_t> files(static_cast<size_t>(comm_.size())), tensors(files.size());
    for (const PlannedFile& file : plan_.files) {
      ++files[static_cast<size_t>(file.writer)];
      tensors[static_cast<size_t>(file.writer)] += static_cast<int64_t>(file.tensors.size());
    }
    const std::vector<Checksum> file_checksums = gather(writer.file_checksums(), files);
    const std::vector<Checksum> tensor_checksums = gather(writer.tensor_checksums(), tensors);
    std::vector<ManifestTensor> described = plan_.tensors;
    size_t next = 0;
    for (const PlannedFile& file : plan_.files) {
      for (size_t index : file.tensors) described[index].checksum = to_hex(tensor_checksums[next++]);
    }
    for (size_t index : name_order(state_)) manifest.tensors.push_back(described[index]);
    for (size_t i = 0; i < plan_.files.size(); ++i) manifest.files.push_back({plan_.files[i].name, 0, to_hex(file_checksums[i])});
    for (size_t i = 0; i < manifest.files.size(); ++i) {
      manifest.files[i].bytes = static_cast<int64_t>(expected_start(manifest, i).size()) + plan_.files[i].data_bytes;
    }
    return manifest;
  }

  std::vector<Checksum> gather(std::vector<Checksum> mine, const std::vector<int64_t>& counts) {
    int64_t total = 0;
    for (int64_t count : counts) total += count;
    std::vector<Checksum> all(static_cast<size_t>(total));
    constexpr int64_t kWords = sizeof(Checksum) / sizeof(int32_t);
    comm_.all_gather({"checkpoint checksums"}, Tensor(mine.data(), Dtype::kI32, {static_cast<int64_t>(mine.size()), kWords}),
                     Tensor(all.data(), Dtype::kI32, {total, kWords}), counts);
    return all;
  }

  // Rank 0. An older checkpoint of the same step changes places with the new one, so that one of them is always there.
  void commit(const Manifest& manifest, const std::string& name) {
    write_new_file(calls_, stage_directory_.get(), kManifestName, render_manifest(manifest));
    sync_or_throw(calls_, stage_directory_.get(), stage_);
    unsigned flags = RENAME_NOREPLACE;
    int failed = calls_.rename(run_.get(), stage_.c_str(), name.c_str(), flags);
    if (failed != 0 && errno == EEXIST) {
      flags = RENAME_EXCHANGE;
      failed = calls_.rename(run_.get(), stage_.c_str(), name.c_str(), flags);
    } else if (failed != 0 && (errno == EINVAL || errno == ENOSYS)) {  // a file system without flags; it still replaces no directory that holds something
      flags = 0;
      failed = calls_.rename(run_.get(), stage_.c_str(), name.c_str(), flags);
    }
    if (failed != 0) throw io_error("rename the finished checkpoint to", run_path_ + "/" + name, errno);
    if (calls_.sync(run_.get()) != 0) {
      const int number = errno;
      if (flags == RENAME_EXCHANGE) {
        calls_.rename(run_.get(), stage_.c_str(), name.c_str(), flags);
      } else {
        calls_.rename(run_.get(), name.c_str(), stage_.c_str(), flags);
      }
      throw io_error("bring to the disk", run_path_, number);
    }
    if (flags == RENAME_EXCHANGE) remove_directory(calls_, run_.get(), stage_);
  }

  int owner(const Piece& piece) const { return state_[piece.tensor].blocks[piece.block].owner; }
  const char* local_bytes(const Piece& piece) const { return static_cast<const char*>(state_[piece.tensor].blocks[piece.block].data.data()) + piece.offset; }
  int64_t rows_from(int rank, const std::vector<Piece>& pieces) const {
    int64_t rows = 0;
    for (const Piece& piece : pieces) rows += owner(piece) == rank ? piece_rows(piece.bytes) : 0;
    return rows;
  }

  Communicator& comm_;
  const std::string& run_path_;
  const State& state_;
  FileCalls& calls_;
  WritePlan plan_;
  std::string stage_;
  Descriptor run_, stage_directory_;
  Buffer inbox_;
  std::vector<int64_t> arrived_;  // by rank: where its next piece lies in the inbox, bytes
};

}  // namespace

SavedCheckpoint save_checkpoint(Communicator& communicator, const std::string& run, const State& state, const StateInfo& info, const SaveOptions& options) {
  check_state(state, communicator.rank(), communicator.size());
  FileCalls system;
  return Saving(communicator, run, state, options.calls != nullptr ? *options.calls : system).save(info, options);
}

}  // namespace switchyard
