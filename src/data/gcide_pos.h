// GCIDE as labelled text: definitions and the parts of speech of what they define (gcide_entry.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "src/data/corpus.h"
#include "src/data/gcide_entry.h"
#include "src/data/tokenize_labelled.h"

namespace switchyard {

// Calls visit(example, held_out) for each entry that is one, in the dictionary's order. Entries of one headword are on one
// side, whatever their part of speech; a text that came before is passed over. One headword in ten is held out.
// `path`: Debian's dictionary or a file like it. Errors as read_documents.
void read_gcide_pos(const std::string& path, const std::function<void(const PartOfSpeech&, bool held_out)>& visit);

// A folder with train.tsv and heldout.tsv (label, tab, text) and what tokenize --labelled makes of them. Appears whole, by a
// rename, or not at all. options.source and options.heldout mean nothing. Errors as tokenize_labelled.
LabelledTokenizeReport make_gcide_pos(const std::string& path, const LabelledTokenizeOptions& options);

// The same examples in aclImdb's layout: train/CLASS/N.txt and test/CLASS/N.txt, N from 0 in each class.
struct FolderCounts {
  int64_t train = 0, heldout = 0;
};
FolderCounts write_gcide_pos_folders(const std::string& path, const std::string& output);

}  // namespace switchyard
