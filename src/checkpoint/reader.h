// Reading one checkpoint directory, before anything is known about the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/checkpoint/files.h"
#include "src/checkpoint/manifest.h"
#include "src/checkpoint/safetensors.h"

namespace switchyard {

// The manifest's text; a read failure is an Error. `directory` is the checkpoint's.
std::string read_manifest_text(int directory);

// A file of the checkpoint: its size and every byte before its data are what the manifest says. Throws Error(kData).
SafetensorsFile open_shard(int directory, const Manifest& manifest, size_t index);

// Indices of manifest.tensors, by file and place.
std::vector<size_t> file_order(const Manifest& manifest);

// The manifest, from its text, of a checkpoint whose files are all there, with their sizes and headers. Data are not
// read. Throws Error with a sentence that begins with the file's name. `step`: which one it must be; -1: any.
Manifest sound_manifest(int directory, const std::string& text, int64_t step);
// The same for checkpoint `step` of a run.
Manifest sound_manifest_at(int run, int64_t step);

}  // namespace switchyard
