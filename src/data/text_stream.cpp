#include "src/data/text_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "src/base/error.h"

namespace switchyard {

namespace {

constexpr size_t kChunk = size_t{256} << 10;

// Prose packs 3 times, logs perhaps 100; deflate reaches 1032. Small files may do what they like.
constexpr int64_t kMostRatio = 400;
constexpr int64_t kRatioFrom = int64_t{64} << 20;

}  // namespace

TextStream::TextStream(const std::string& path, int64_t most_bytes) : path_(path), most_bytes_(most_bytes), buffer_(kChunk) {
  // Not blocking, so that a pipe nobody writes to is refused instead of waited for.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw Error(ExitCode::kInputOutput, fmt::format("cannot open corpus {}: {}", path, std::strerror(errno)));
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw Error(ExitCode::kInputOutput, fmt::format("cannot read corpus {}: it is not a regular file; name a text file, plain or gzip", path));
  }
  file_.reset(gzdopen(descriptor, "rb"));
  if (file_ == nullptr) {
    ::close(descriptor);
    throw Error(ExitCode::kInputOutput, fmt::format("cannot read corpus {}: no memory to unpack it", path));
  }
  gzbuffer(file_.get(), static_cast<unsigned>(kChunk));
}

TextStream::~TextStream() = default;

void TextStream::Close::operator()(gzFile_s* file) const { gzclose_r(file); }

std::string_view TextStream::next() {
  errno = 0;
  const int got = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int code = Z_OK;
  const char* reason = gzerror(file_.get(), &code);
  if (code == Z_ERRNO) throw Error(ExitCode::kInputOutput, fmt::format("cannot read corpus {}: {}", path_, std::strerror(errno)));
  if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {  // Z_BUF_ERROR: the file ends inside a gzip stream
    throw Error(ExitCode::kData, fmt::format("corpus {} is damaged after {} unpacked bytes ({}); fetch it again", path_, bytes_ + std::max(got, 0), reason));
  }
  bytes_ += got;
  check_sizes();
  return {buffer_.data(), static_cast<size_t>(got)};
}

void TextStream::check_sizes() {
  if (bytes_ > most_bytes_) {
    throw Error(ExitCode::kData, fmt::format("corpus {} has more than the {} bytes that are left for it; use less text", path_, most_bytes_));
  }
  if (bytes_ > kRatioFrom && bytes_ / kMostRatio > gzoffset(file_.get())) {
    throw Error(ExitCode::kData,
                fmt::format("corpus {} unpacks to more than {} times its size, which no text does; unpack it first if it is what you want", path_, kMostRatio));
  }
}

}  // namespace switchyard
