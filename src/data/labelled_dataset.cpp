#include "src/data/labelled_dataset.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "src/base/error.h"

namespace switchyard {

namespace {

namespace fs = std::filesystem;

void demand_counts(const ExampleFile& file, const Labels& labels, int64_t Label::*counted) {
  std::vector<int64_t> counts(static_cast<size_t>(labels.classes()));
  for (int64_t i = 0; i < file.examples(); ++i) ++counts[static_cast<size_t>(file.label(i))];
  for (int32_t i = 0; i < labels.classes(); ++i) {
    if (counts[static_cast<size_t>(i)] == labels[i].*counted) continue;
    throw Error(ExitCode::kData, fmt::format("{} holds {} examples of \"{}\", and the list of labels says {}; tokenize the labelled texts again", file.path(),
                                             counts[static_cast<size_t>(i)], labels.name(i), labels[i].*counted));
  }
}

}  // namespace

LabelledDataset open_labelled_dataset(const std::string& folder) {
  const fs::path path(folder);
  if (!fs::exists(path / "train.examples") && fs::exists(path / "train.tokens")) {
    throw Error(ExitCode::kData, fmt::format("{} holds text without labels, which a language model learns from; a classifier needs a folder that switchyard "
                                             "tokenize --labelled made",
                                             folder));
  }
  LabelledDataset dataset;
  dataset.tokenizer = load_tokenizer((path / "tokenizer").string());
  dataset.labels = load_labels((path / "labels").string());
  dataset.train = std::make_unique<ExampleFile>((path / "train.examples").string());
  dataset.heldout = std::make_unique<ExampleFile>((path / "heldout.examples").string());
  for (const ExampleFile* file : {dataset.train.get(), dataset.heldout.get()}) file->demand(dataset.tokenizer->digest(), dataset.labels.digest());
  demand_counts(*dataset.train, dataset.labels, &Label::train);
  demand_counts(*dataset.heldout, dataset.labels, &Label::heldout);
  return dataset;
}

}  // namespace switchyard
