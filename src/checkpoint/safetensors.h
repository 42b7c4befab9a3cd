// The safetensors format (README.md of this folder): 8 bytes with the length N of the header, little-endian; N bytes of
// JSON that name the tensors and say where in the data section they lie; the data section. The reader treats every file
// as hostile: nothing is allocated or read before its size has been checked against the size of the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "src/checkpoint/files.h"

namespace switchyard {

inline constexpr int64_t kMaxHeaderBytes = int64_t{16} << 20;
inline constexpr size_t kMaxTensors = 65536;  // of one file
inline constexpr size_t kMaxNameBytes = 256;

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes in the data section
};

// What may be wrong with a file, class by class as in the reference reader, and what this reader forbids beyond it.
enum class SafetensorsFault {
  kHeaderTooSmall,       // the file has no 8 bytes
  kHeaderTooLarge,       // N beyond kMaxHeaderBytes
  kInvalidHeaderLength,  // N beyond the end of the file
  kInvalidHeaderStart,   // the header does not begin with {, or is padded with something else than spaces
  kInvalidHeader,        // not UTF-8
  kInvalidJson,          // not JSON, or not the members that a tensor has
  kInvalidOffset,        // a hole, an overlap, or an end before its beginning
  kInvalidTensor,        // the bytes are not what dtype and shape ask for
  kIncompleteBuffer,     // the data section is longer or shorter than its tensors
  kOverflow,             // a size that does not fit in 63 bits
  kUnknownDtype,         // none of F64, F32, BF16, I32
  kDuplicateName,
  kNameTooLong,
  kTooManyTensors,
  kRankTooHigh,
  kNestingTooDeep,
};

class SafetensorsError : public Error {
 public:
  SafetensorsError(SafetensorsFault fault, const std::string& sentence) : Error(ExitCode::kData, sentence), fault_(fault) {}
  SafetensorsFault fault() const { return fault_; }

 private:
  SafetensorsFault fault_;
};

// The length of the header, from the file's first bytes (8 of them, or fewer if the file is shorter) and its size.
// `name` is for messages, here and below.
int64_t safetensors_header_bytes(std::string_view first, int64_t file_bytes, const std::string& name);

// The tensors that a header (without the 8 bytes) describes, in the order of their bytes. `data_bytes`: the size of the
// data section, which they fill without hole or overlap.
std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view header, int64_t data_bytes, const std::string& name);

// The start of a file, its 8 bytes included, padded with spaces so that the data begin at a multiple of 64. The entries,
// in any order, must describe the data section as the reader demands it.
std::string render_safetensors_header(std::vector<SafetensorsEntry> entries);

std::optional<Dtype> dtype_named(const std::string& text);
// At most kMaxRank extents whose product fits in 63 bits: to be checked before.
Shape shape_of(const std::vector<int64_t>& extents);

// A file that is open and whose header has been read and checked. Data are read with pread into the caller's memory.
class SafetensorsFile {
 public:
  // Below a directory (a plain name, no link), or by path.
  SafetensorsFile(int directory, const std::string& name);
  explicit SafetensorsFile(const std::string& path);

  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // The bytes before the data section.
  const std::string& start() const { return start_; }
  int64_t bytes() const { return bytes_; }

  // Throws Error(kData) naming the file if it has no such tensor.
  const SafetensorsEntry& find(const std::string& tensor) const;
  // `bytes` bytes of the data section from `offset`.
  void read(int64_t offset, void* data, int64_t bytes) const;
  // A whole tensor, with the dtype and shape of `out`, contiguous on the host.
  void read(const std::string& tensor, Tensor out) const;

 private:
  void open(Descriptor file, const std::string& name, int64_t bytes);

  std::string name_;
  Descriptor file_;
  int64_t bytes_ = 0;
  std::string start_;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace switchyard
