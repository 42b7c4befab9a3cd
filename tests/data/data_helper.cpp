#include "tests/data/data_helper.h"

#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "kernels/rng.h"

namespace switchyard {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "switchyard-data-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
  folder_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, std::string_view bytes) const {
  std::ofstream(path(name), std::ios::binary) << bytes;
  return path(name);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_whole(const std::string& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

std::string gzip(std::string_view bytes) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

void expect_error(ExitCode code, const std::string& words, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error, but one with \"" << words << "\" was expected";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << message;
    EXPECT_NE(message.find(words), std::string::npos) << "\"" << words << "\" is not in: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << "more than one line: " << message;
  }
}

std::string synthetic_text(int64_t words, uint64_t seed) {
  static constexpr std::array<const char*, 12> kStems = {"read", "light", "stone", "water", "house", "field", "turn", "mark", "ship", "wind", "paper", "north"};
  static constexpr std::array<const char*, 8> kEndings = {"", "s", "ed", "ing", "er", "less", "ful", "ly"};
  static constexpr std::array<const char*, 8> kSmall = {"the", "of", "and", "a", "to", "in", "which", "that"};
  std::string text;
  for (int64_t i = 0; i < words; ++i) {
    const uint64_t draw = mix64(seed ^ mix64(static_cast<uint64_t>(i)));
    const char* first = draw % 2 == 0 ? "" : kStems[(draw >> 32) % 12];
    const std::string word = draw % 3 == 0 ? kSmall[(draw >> 8) % 8] : fmt::format("{}{}{}", first, kStems[(draw >> 8) % 12], kEndings[(draw >> 16) % 8]);
    const char* space = i == 0 ? "" : i % 40 == 0 ? "\n\n" : i % 10 == 0 ? "\n   " : (draw >> 24) % 9 == 0 ? ", " : " ";
    text += space + word;
  }
  return text + ".\n";
}

std::string write_tokens(const TemporaryFolder& folder, const std::string& name, const std::vector<std::vector<int32_t>>& documents, int64_t vocabulary) {
  TokenFileInfo info;
  info.split = "train";
  info.tokenizer = digest_of("a tokenizer");
  info.vocabulary = vocabulary;
  info.end_of_document = static_cast<int32_t>(vocabulary - 1);
  TokenFileWriter writer(folder.path(name), info);
  for (const auto& document : documents) writer.add_document(document, 3 * static_cast<int64_t>(document.size()) + 2);
  writer.finish();
  return folder.path(name);
}

std::string write_counting_tokens(const TemporaryFolder& folder, int64_t tokens, int64_t vocabulary) {
  std::vector<int32_t> document;
  for (int64_t i = 0; i + 1 < tokens; ++i) document.push_back(static_cast<int32_t>(i % (vocabulary - 1)));
  return write_tokens(folder, "counting.tokens", {document}, vocabulary);
}

std::vector<int32_t> all_tokens(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.tokens()));
  file.read(0, tokens);
  return tokens;
}

}  // namespace switchyard
