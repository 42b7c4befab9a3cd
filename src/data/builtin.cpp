#include "src/data/builtin.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "kernels/rng.h"
#include "src/base/error.h"
#include "src/data/file.h"
#include "src/data/tokenize_labelled.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr int kDocuments = 400, kLabelledTexts = 600;
constexpr std::array kNouns = {"engine", "signal", "wagon", "river", "station", "lantern", "bridge", "letter", "garden", "tower", "driver", "market"};
constexpr std::array kAdjectives = {"old", "quiet", "bright", "narrow", "heavy", "green", "early", "broken"};
constexpr std::array kVerbs = {"passes", "follows", "waits for", "carries", "hides", "finds", "leaves", "remembers"};
constexpr std::array kClasses = {"motion", "gain", "loss", "rest"};
constexpr std::array kClassVerbs = {std::array{"passes", "follows"}, std::array{"carries", "finds"}, std::array{"hides", "leaves"},
                                    std::array{"waits for", "remembers"}};

// Draws of one document, one after the other.
class Draws {
 public:
  explicit Draws(uint64_t document) : random_(20210111, Purpose::kSampling, 0, 0, document) {}
  uint32_t below(size_t n) { return random_.word(0, next_++) % static_cast<uint32_t>(n); }
  template <class Words>
  const char* of(const Words& words) {
    return words[below(words.size())];
  }

 private:
  Random random_;
  uint32_t next_ = 0;
};

std::string noun_phrase(Draws& draws) {
  const char* noun = draws.of(kNouns);
  return draws.below(2) == 0 ? fmt::format("the {}", noun) : fmt::format("the {} {}", draws.of(kAdjectives), noun);
}

std::string document_text(uint64_t document) {
  Draws draws(document);
  std::string text;
  for (uint32_t sentence = 0, sentences = 2 + draws.below(4); sentence < sentences; ++sentence) {
    const std::string subject = noun_phrase(draws);
    const char* verb = draws.of(kVerbs);
    text += fmt::format("{}{} {} {}.", sentence == 0 ? "" : " ", subject, verb, noun_phrase(draws));
  }
  return text;
}

// "label<TAB>text", with numbers of documents that builtin_text() does not use.
std::string labelled_line(uint64_t number) {
  Draws draws(kDocuments + number);
  const size_t label = draws.below(kClasses.size());
  std::string line = fmt::format("{}\t", kClasses[label]);
  for (uint32_t sentence = 0, sentences = 1 + draws.below(3); sentence < sentences; ++sentence) {
    const std::string subject = noun_phrase(draws);
    const char* verb = draws.of(kClassVerbs[label]);
    line += fmt::format("{}{} {} {}.", sentence == 0 ? "" : " ", subject, verb, noun_phrase(draws));
  }
  return line;
}

void write(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.append(text);
  file.commit();
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = (fs::temp_directory_path() / "switchyard-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr)
      throw Error(ExitCode::kInputOutput, fmt::format("cannot create folder {}: {}; set TMPDIR to one with room", path_, std::strerror(errno)));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace

std::string builtin_text() {
  std::string text;
  for (int document = 0; document < kDocuments; ++document) text += document_text(static_cast<uint64_t>(document)) + "\n";
  return text;
}

Dataset open_builtin_dataset() {
  const TemporaryFolder folder;
  write(folder.file("text"), builtin_text());
  TokenizeOptions options;
  options.corpus.paths = {folder.file("text")};
  options.corpus.documents = Documents::kLine;
  options.kind = TokenizerKind::kBytes;
  options.one_in = 10;
  options.threads = 1;
  options.output = folder.file("dataset");
  tokenize(options);
  return open_dataset(options.output);  // what is open stays readable when the folder is gone
}

LabelledDataset open_builtin_labelled_dataset() {
  const TemporaryFolder folder;
  std::string lines;
  for (uint64_t number = 0; number < kLabelledTexts; ++number) lines += labelled_line(number) + "\n";
  write(folder.file("texts.tsv"), lines);
  LabelledTokenizeOptions options;
  options.source.paths = {folder.file("texts.tsv")};
  options.threads = 1;
  options.output = folder.file("dataset");
  tokenize_labelled(options);
  return open_labelled_dataset(options.output);
}

}  // namespace switchyard
