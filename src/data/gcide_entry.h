// An entry of GCIDE as an example of a part of speech: what its definition says, without what gives the answer away.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

struct PartOfSpeech {
  std::string headword;  // lower case
  std::string label;     // "adjective", "adverb", "noun" or "verb"
  std::string text;      // words with one space between them
};

// `entry` is a document of Documents::kGcide, `next` the one after it (or empty): the dictionary's files carry the first words of
// an entry at the end of the one before. None where the entry names no single one of the four parts of speech, or leaves fewer
// than four words.
//
// Taken away: the headline with pronunciation, part of speech and etymology; everything in brackets (but letters such as
// "[ae]"); labels such as "(Bot.)", "n." or "v. t."; numbers of senses; quotations and their authors; paragraphs of
// synonyms, notes, phrases and derived words; and every form of the headword: words that begin with its first five letters
// (or with all of a shorter one, and have at most four more), and those that the headline lists.
std::optional<PartOfSpeech> part_of_speech(std::string_view entry, std::string_view next);

}  // namespace switchyard
