#include "src/data/gcide_pos.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <unordered_set>

#include "src/base/error.h"
#include "src/data/file.h"
#include "src/data/output_folder.h"
#include "src/data/parallel_encoder.h"

namespace switchyard {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeldOutOneIn = 10;
constexpr size_t kPending = size_t{1} << 20;  // bytes collected before they are written

// A table that is written line by line.
class Table {
 public:
  explicit Table(const std::string& path) : file_(path) {}
  void add(const PartOfSpeech& example) {
    pending_ += fmt::format("{}\t{}\n", example.label, example.text);
    if (pending_.size() >= kPending) flush();
  }
  void commit() {
    flush();
    file_.commit();
  }

 private:
  void flush() {
    file_.append(pending_);
    pending_.clear();
  }
  OutputFile file_;
  std::string pending_;
};

}  // namespace

void read_gcide_pos(const std::string& path, const std::function<void(const PartOfSpeech&, bool held_out)>& visit) {
  CorpusOptions options;
  options.paths = {path};
  options.documents = Documents::kGcide;
  options.encoding = Encoding::kCp1252Fallback;
  std::unordered_set<std::string> seen;
  std::string entry;  // the one before the document at hand
  const auto take = [&](std::string_view next) {
    const std::optional<PartOfSpeech> example = part_of_speech(entry, next);
    if (example && seen.insert(example->text).second) visit(*example, held_out(example->headword, kHeldOutOneIn));
    entry = next;
  };
  read_documents(options, take);
  take({});
  if (seen.empty()) throw Error(ExitCode::kData, fmt::format("{} holds no entry with a part of speech; expected the dictionary of Debian's dict-gcide", path));
}

LabelledTokenizeReport make_gcide_pos(const std::string& path, const LabelledTokenizeOptions& options) {
  demand_threads(options.threads);
  OutputFolder folder(options.output);
  LabelledTokenizeOptions tables = options;
  tables.source = {};
  tables.source.paths = {folder.file("train.tsv")};
  tables.heldout = {folder.file("heldout.tsv")};
  Table train(tables.source.paths[0]), heldout(tables.heldout[0]);
  read_gcide_pos(path, [&](const PartOfSpeech& example, bool held_out) { (held_out ? heldout : train).add(example); });
  train.commit();
  heldout.commit();
  LabelledTokenizeReport report = tokenize_labelled_into(folder, tables);
  folder.commit();
  return report;
}

FolderCounts write_gcide_pos_folders(const std::string& path, const std::string& output) {
  OutputFolder folder(output);
  FolderCounts counts;
  std::map<std::string, int64_t> files;  // by folder
  read_gcide_pos(path, [&](const PartOfSpeech& example, bool held_out) {
    const std::string name = fmt::format("{}/{}", held_out ? "test" : "train", example.label);
    const int64_t number = files[name]++;
    std::error_code ignored;  // the file tells
    if (number == 0) fs::create_directories(folder.file(name), ignored);
    const std::string file = folder.file(fmt::format("{}/{}.txt", name, number));
    std::ofstream stream(file, std::ios::binary);
    if (!(stream << example.text << '\n') || !stream.flush()) throw Error(ExitCode::kInputOutput, fmt::format("cannot write {}; is there room for it?", file));
    ++(held_out ? counts.heldout : counts.train);
  });
  folder.commit();
  return counts;
}

}  // namespace switchyard
