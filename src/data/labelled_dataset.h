// What `tokenize --labelled` made: a folder with train.examples, heldout.examples, tokenizer and labels.
#pragma once

#include <memory>
#include <string>

#include "src/data/example_file.h"
#include "src/data/labels.h"
#include "src/data/tokenizer.h"

namespace switchyard {

struct LabelledDataset {
  std::unique_ptr<Tokenizer> tokenizer;
  Labels labels;
  std::unique_ptr<ExampleFile> train, heldout;  // heldout may hold no example
};

// Errors: those of the files, and kData where they do not belong together or the folder was tokenized without labels.
LabelledDataset open_labelled_dataset(const std::string& folder);

}  // namespace switchyard
