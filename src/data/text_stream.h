// Bytes of a file, unpacked if it is gzip (dictzip is gzip with an index in a field that gzip's readers skip).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct gzFile_s;

namespace switchyard {

class TextStream {
 public:
  // Errors: as read_documents. `most_bytes` unpacked bytes are given at most.
  TextStream(const std::string& path, int64_t most_bytes);
  ~TextStream();

  // The next bytes, valid until the next call; empty at the end.
  std::string_view next();
  int64_t bytes() const { return bytes_; }  // given so far, unpacked

 private:
  struct Close {
    void operator()(gzFile_s* file) const;
  };
  void check_sizes();

  std::string path_;
  int64_t most_bytes_;
  int64_t bytes_ = 0;
  std::unique_ptr<gzFile_s, Close> file_;
  std::vector<char> buffer_;
};

}  // namespace switchyard
