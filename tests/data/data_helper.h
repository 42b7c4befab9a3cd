// What the tests of src/data share: a folder of their own, files in it, small texts and token files.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/error.h"
#include "src/data/token_file.h"

namespace switchyard {

// Removed with everything in it at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, std::string_view bytes) const;  // returns the path
  std::vector<std::string> names() const;                                    // in order

 private:
  std::filesystem::path folder_;
};

std::string read_whole(const std::string& path);
std::string gzip(std::string_view bytes);

// `action` must throw an Error with this code whose message is one line and holds `words`.
void expect_error(ExitCode code, const std::string& words, const std::function<void()>& action);

// English-like prose of `words` words in lines, entries with indented lines, separated as gcide is. The same for the same seed.
std::string synthetic_text(int64_t words, uint64_t seed);

// A file of the given documents (without end-of-document tokens). The end of a document is vocabulary - 1.
std::string write_tokens(const TemporaryFolder& folder, const std::string& name, const std::vector<std::vector<int32_t>>& documents, int64_t vocabulary);

// A file of one document: `tokens` tokens in all, 0, 1, 2, ... modulo vocabulary - 1, the last one the end of the document.
std::string write_counting_tokens(const TemporaryFolder& folder, int64_t tokens, int64_t vocabulary);

std::vector<int32_t> all_tokens(const TokenFile& file);

}  // namespace switchyard
