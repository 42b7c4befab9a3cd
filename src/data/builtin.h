// A small text made by the program, for trials, tests and `verify`: nothing to download, the same everywhere.
#pragma once

#include <string>

#include "src/data/labelled_dataset.h"
#include "src/data/tokenize.h"

namespace switchyard {

// About 60 KB: 400 documents, one a line, of sentences with a little grammar.
std::string builtin_text();

// The text as tokenize makes it, in bytes, one document in ten held out. The files live in a temporary folder that is
// removed before this returns. Throws Error(kInputOutput) where there is no room for it.
Dataset open_builtin_dataset();

// 600 texts of the same kind, one to three sentences each, labelled by what their verbs tell: "gain", "loss", "motion" or
// "rest". As tokenize --labelled makes it, in words, one example in ten held out. Otherwise as open_builtin_dataset.
LabelledDataset open_builtin_labelled_dataset();

}  // namespace switchyard
