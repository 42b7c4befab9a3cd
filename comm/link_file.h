// The file of a LinkModel: JSON that `profile alltoall` writes, and that what-if and the emulated link read.
//
//   {"format": "switchyard link 1",
//    "within_host":   {"alpha_seconds": 2e-06, "bytes_per_second": 9.5e9},
//    "between_hosts": {"alpha_seconds": 3e-05, "bytes_per_second": 1.18e8},
//    "ranks_per_host": 4}
//
// ranks_per_host may be left out.
#pragma once

#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "comm/link_model.h"

namespace switchyard {

struct LinkFile {
  LinkModel model;
  // The emulated link takes ranks 0 .. g-1 for one host, g .. 2g-1 for the next, and so on. 0: hosts are what they are.
  int ranks_per_host = 0;
};

// Throws Error(kData) that names `origin`, the field and what it must be: for anything but JSON, for fields that are
// missing, unknown or given twice, and for numbers out of range (alpha 0 to 100 seconds, 1 to 1e15 bytes per second).
LinkFile parse_link_file(std::string_view text, std::string_view origin);
std::string link_file_text(const LinkFile& file);

// Also throws Error(kInputOutput) where the file cannot be read or is longer than 64 KiB.
LinkFile read_link_file(const std::string& path);
// Replaces the file at once. Throws Error(kInputOutput).
void write_link_file(const std::string& path, const LinkFile& file);

// What rank 0 reads, on every rank. Collective. Throws AgreedError on all where rank 0 cannot read it.
LinkFile shared_link_file(Communicator& comm, const std::string& path);

}  // namespace switchyard
