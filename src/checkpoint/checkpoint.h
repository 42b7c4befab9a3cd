// Checkpoints of a run: written so that a crash at any moment leaves either the new one or the old ones, read so that a
// damaged one is never mistaken for a good one. The format is specified in README.md of this folder.
//
//   <run>/step-000001200/shard-00000-of-00002.safetensors, ..., MANIFEST.json
//
// Everything that takes a Communicator is collective, issues the same collectives on every rank even where one of them
// fails, and ends alike on all: all return, or all throw the same Error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "src/checkpoint/digest.h"
#include "src/checkpoint/files.h"
#include "src/checkpoint/list.h"
#include "src/checkpoint/manifest.h"
#include "src/checkpoint/state.h"

namespace switchyard {

struct SaveOptions {
  // Of the buffers through which blocks travel to the ranks that write them: an outbox (OutboxUse::kBucket) and an inbox
  // of at most this size. At least 64 bytes for every rank.
  int64_t buffer_bytes = int64_t{4} << 20;
  int keep = 0;                // how many checkpoints to keep, the newest; 0: all. 1 counts as 2: never fewer are left
  FileCalls* calls = nullptr;  // the system calls that change files; null: the system's own
};

struct SavedCheckpoint {
  std::string directory;     // "<run>/step-000001200"
  std::string state_digest;  // hexadecimal
  int64_t bytes = 0;         // of all files
};

// Writes the state as checkpoint `info.step` of the run directory, which exists. One with the same step is replaced.
// Throws Error(kInputOutput) if it cannot; then no trace of it is left and the older ones are untouched.
SavedCheckpoint save_checkpoint(Communicator& communicator, const std::string& run, const State& state, const StateInfo& info, const SaveOptions& options);

struct LoadOptions {
  bool weights_only = false;  // the state names no optimizer moments, and those in the file are passed over
  bool quarantine = false;    // damaged checkpoints are renamed to ".damaged-step-..."; needs the lock of the run
};

struct LoadedCheckpoint {
  StateInfo info;
  std::string directory;
  std::string state_digest;           // of the whole checkpoint, moments included
  std::vector<std::string> warnings;  // one sentence for each damaged, newer checkpoint; the same on every rank
};

// Fills the blocks of the state, whose owners may differ from those that saved it, from the newest checkpoint that is
// whole: each rank reads the tensors of which it owns a block, and checks them. Nothing where the run has no checkpoint.
// Throws Error(kData) if it has some and none is whole, or if the newest whole one has other names, dtypes or shapes;
// the state's bytes are then undefined.
std::optional<LoadedCheckpoint> load_checkpoint(Communicator& communicator, const std::string& run, State& state, const LoadOptions& options);

// Steps of the checkpoints of a run, newest first, whole or not. Not collective. Empty where the directory is missing.
std::vector<int64_t> list_checkpoints(const std::string& run);

struct FoundCheckpoint {
  std::string directory;
  Manifest manifest;  // info, state digest, files, tensors
};

// The newest checkpoint whose manifest is sound and whose files exist with their sizes and headers; data is not read.
// Not collective; for what must be known before the model is built. `warnings` gets a sentence for each that was passed
// over. Nothing where the run has none; Error(kData) if it has some and none is sound.
std::optional<FoundCheckpoint> find_newest_valid(const std::string& run, std::vector<std::string>& warnings);

// Reads every byte of one checkpoint directory, checks every checksum, and returns the state digest computed from the
// bytes. Not collective. Throws Error(kData) naming the file or tensor that is wrong.
std::string verify_checkpoint(const std::string& directory);

}  // namespace switchyard
