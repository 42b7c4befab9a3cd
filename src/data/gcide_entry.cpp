#include "src/data/gcide_entry.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

namespace switchyard {

namespace {

constexpr size_t kMostHeadBytes = 60, kMostPronunciationBytes = 80, kMostBracketBytes = 4000, kMostLetterBytes = 3, kMostLabelBytes = 40;
constexpr size_t kQuotationIndent = 9;  // spaces before a quotation; senses have 3 to 8
constexpr size_t kLeastWords = 4;
constexpr size_t kStemBytes = 5;        // of a headword: what begins so counts as a form of it
constexpr size_t kMostEndingBytes = 4;  // after a headword that is shorter

struct Mark {
  std::string_view mark, part;  // an empty part: none of the four
};
constexpr std::array kMarks = {Mark{"n.", "noun"},    Mark{"adj.", "adjective"}, Mark{"adv.", "adverb"}, Mark{"a.", "adjective"}, Mark{"v. t.", "verb"},
                               Mark{"v. i.", "verb"}, Mark{"v.t.", "verb"},      Mark{"v.i.", "verb"},   Mark{"v.", "verb"},      Mark{"t.", "verb"},
                               Mark{"i.", "verb"},    Mark{"interj.", ""},       Mark{"prep.", ""},      Mark{"conj.", ""},       Mark{"pron.", ""},
                               Mark{"p. p.", ""},     Mark{"p. pr.", ""},        Mark{"p. a.", ""},      Mark{"imp.", ""},        Mark{"prop. n.", ""},
                               Mark{"vb. n.", ""}};
constexpr std::array<std::string_view, 24> kLabels = {"n.",    "adj.",  "adv.",  "a.",      "v.",      "t.",      "i.",   "v.t.",
                                                      "v.i.",  "vb.",   "p.",    "pr.",     "imp.",    "pret.",   "pl.",  "sing.",
                                                      "prep.", "pron.", "conj.", "interj.", "compar.", "superl.", "obs.", "prop."};
constexpr std::array<std::string_view, 4> kSideParagraphs = {"Syn:", "Note:", "Usage:", "{"};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_word_byte(char c) { return is_upper(c) || is_lower(c) || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80; }

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = is_upper(c) ? static_cast<char>(c + ('a' - 'A')) : c;
  return result;
}

std::string_view skip_spaces(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

std::string_view trimmed(std::string_view text) {
  text = skip_spaces(text);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// From its first byte of a word to its last one: "dog's" of "(dog's,".
std::string_view bare(std::string_view word) {
  while (!word.empty() && !is_word_byte(word.front())) word.remove_prefix(1);
  while (!word.empty() && !is_word_byte(word.back())) word.remove_suffix(1);
  return word;
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (text = skip_spaces(text); !text.empty(); text = skip_spaces(text)) {
    const size_t end = static_cast<size_t>(std::find_if(text.begin(), text.end(), is_space) - text.begin());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

// Takes `Head \Syllables\ (pronunciation),` off the front; the last two may be missing. Empty: there is no head.
std::string_view take_head(std::string_view& text) {
  const size_t begin = text.find('\\');
  if (begin == text.npos || begin == 0 || begin > kMostHeadBytes || text.substr(0, begin).find('\n') != text.npos) return {};
  const size_t end = text.find('\\', begin + 1);
  if (end == text.npos || end - begin > kMostPronunciationBytes) return {};
  const std::string_view head = trimmed(text.substr(0, begin));
  text = skip_spaces(text.substr(end + 1));
  if (text.starts_with('(')) {
    const size_t close = text.find(')');
    if (close < kMostPronunciationBytes) text = skip_spaces(text.substr(close + 1));
  }
  if (text.starts_with(',')) text = skip_spaces(text.substr(1));
  return head;
}

const Mark* find_mark(std::string_view text) {
  const auto found = std::find_if(kMarks.begin(), kMarks.end(), [&](const Mark& mark) { return text.starts_with(mark.mark); });
  return found == kMarks.end() ? nullptr : found;
}

// Takes marks such as "v. t. & i." off the front. Empty: none of the four parts of speech, or several.
std::string_view take_part(std::string_view& text) {
  const Mark* mark = find_mark(text);
  if (mark == nullptr) return {};
  const std::string_view part = mark->part;
  bool single = true;
  while (mark != nullptr) {
    single = single && mark->part == part;
    text.remove_prefix(mark->mark.size());
    std::string_view rest = skip_spaces(text);
    for (const std::string_view joint : {",", "&", "or ", "and "}) {
      if (rest.starts_with(joint)) rest = skip_spaces(rest.substr(joint.size()));
    }
    mark = find_mark(rest);
    if (mark != nullptr) text = rest;
  }
  return single ? part : std::string_view();
}

// The end of the bracket that begins at `begin`, inner ones skipped; npos where it does not end soon.
size_t bracket_end(std::string_view text, size_t begin) {
  int depth = 0;
  for (size_t i = begin; i < std::min(text.size(), begin + kMostBracketBytes); ++i) {
    depth += text[i] == '[';
    depth -= text[i] == ']';
    if (depth == 0) return i;
  }
  return text.npos;
}

// Without brackets, but with the letters of those that stand for one: "C[ae]sar" is "Caesar", "f[=a]" is "fa".
std::string without_brackets(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '[') {
      result += text[i];
      continue;
    }
    const size_t end = bracket_end(text, i);
    if (end == text.npos) continue;
    const std::string_view inside = text.substr(i + 1, end - i - 1);
    if (inside.size() <= kMostLetterBytes && inside.find('.') == inside.npos) std::copy_if(inside.begin(), inside.end(), std::back_inserter(result), is_lower);
    i = end;
  }
  return result;
}

// The headline: up to the first line end that is in no bracket.
size_t headline_end(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') return i;
    const size_t end = text[i] == '[' ? bracket_end(text, i) : text.npos;
    if (end != text.npos) i = end;
  }
  return text.size();
}

// Which words are forms of the headwords.
class Forms {
 public:
  Forms(const std::vector<std::string>& heads, std::string_view headline) {
    for (const std::string& head : heads) {
      const std::vector<std::string_view> words = words_of(head);
      for (size_t i = 0; i < words.size(); ++i) {
        const std::string_view word = bare(words[i]);
        if (!word.empty() && (i == 0 || word.size() >= kMostEndingBytes)) stems_.insert(std::string(word.substr(0, kStemBytes)));
      }
    }
    for (size_t open = headline.find('{'); open != headline.npos; open = headline.find('{', open + 1)) {
      const size_t close = headline.find('}', open);
      if (close == headline.npos) break;
      for (const std::string_view word : words_of(headline.substr(open + 1, close - open - 1))) {
        std::string form = lower(bare(word));
        std::erase_if(form, [](char c) { return c == '*' || c == '"' || c == '`'; });  // marks of syllables
        if (form.size() > 2) listed_.insert(form);
      }
    }
  }

  bool holds(std::string_view word) const {
    std::string plain = lower(bare(word));
    if (plain.ends_with("'s")) plain.resize(plain.size() - 2);
    if (listed_.contains(plain)) return true;
    return std::any_of(stems_.begin(), stems_.end(), [&](const std::string& stem) {
      return plain.starts_with(stem) && (stem.size() == kStemBytes || plain.size() - stem.size() <= (stem.size() > 2 ? kMostEndingBytes : stem.size()));
    });
  }

 private:
  std::set<std::string> stems_, listed_;
};

// "(Bot.)", "(Eng. Law)", "(a)": labels of a sense.
bool is_label(std::string_view inside) {
  if (inside.size() == 1) return is_lower(inside[0]);
  if (inside.empty() || inside.size() > kMostLabelBytes || !is_upper(inside.front())) return false;
  const std::vector<std::string_view> words = words_of(inside);
  const bool capitals = std::all_of(words.begin(), words.end(), [](std::string_view word) { return is_upper(word[0]) || word == "&"; });
  return inside.back() == '.' || (capitals && inside.find('.') != inside.npos);
}

// A paragraph without labels in parentheses, authors, derived words and braces.
std::string without_marks(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = text.substr(i);
    if (rest.starts_with("-- {") || rest.starts_with("--{")) break;  // derived words come last
    if (rest.starts_with("--") && rest.size() > 2 && is_upper(rest[2])) {
      i += std::min(rest.find('\n'), rest.size()) - 1;
    } else if (const size_t close = rest[0] == '(' ? rest.find(')') : rest.npos; close != rest.npos && is_label(rest.substr(1, close - 1))) {
      i += close;
    } else if (rest[0] != '{' && rest[0] != '}') {
      result += rest[0];
    }
  }
  return result;
}

bool is_number_of_sense(std::string_view word) { return word.size() > 1 && word.ends_with('.') && word.find_first_not_of("0123456789.") == word.npos; }

// "n.", "adv.,", "(v.", "adj..".
bool is_part_label(std::string_view word) {
  if (word.starts_with('(')) word.remove_prefix(1);
  const size_t dot = word.find_last_not_of(".,;:)") + 1;
  return word.substr(dot).starts_with('.') && std::find(kLabels.begin(), kLabels.end(), word.substr(0, dot + 1)) != kLabels.end();
}

// What markup has left behind: "Faith\"less*ness" (syllables), brackets without a partner, a pronunciation.
bool is_markup(std::string_view word) { return word.find_first_of("*[]\\") != word.npos; }

void append_paragraph(std::string_view paragraph, const Forms& forms, std::vector<std::string>& words) {
  const size_t indent = std::min(paragraph.find_first_not_of(' '), paragraph.size());
  const std::string_view inside = paragraph.substr(indent);
  if (indent >= kQuotationIndent) return;
  for (const std::string_view side : kSideParagraphs) {
    if (inside.starts_with(side)) return;
  }
  const std::string plain = without_marks(inside);
  bool first = true;
  for (const std::string_view word : words_of(plain)) {
    const bool number = first && is_number_of_sense(word);
    first = false;
    if (number || bare(word).empty() || is_markup(word) || is_part_label(word) || forms.holds(word)) continue;
    words.emplace_back(word);
  }
}

// Paragraphs end at lines of white space.
std::vector<std::string> definition(std::string_view body, const Forms& forms) {
  std::vector<std::string> words;
  std::string paragraph;
  while (!body.empty()) {
    const size_t end = std::min(body.find('\n'), body.size());
    const std::string_view line = body.substr(0, end);
    if (trimmed(line).empty()) {
      append_paragraph(paragraph, forms, words);
      paragraph.clear();
    } else {
      paragraph.append(line).append("\n");
    }
    body.remove_prefix(std::min(end + 1, body.size()));
  }
  append_paragraph(paragraph, forms, words);
  return words;
}

}  // namespace

std::optional<PartOfSpeech> part_of_speech(std::string_view entry, std::string_view next) {
  if (const std::string_view head = take_head(next); !head.empty() && trimmed(entry).ends_with(head)) {
    entry = trimmed(entry);
    entry.remove_suffix(head.size());
  }
  std::vector<std::string> heads;
  std::string_view part;
  while (part.empty()) {
    const std::string_view head = take_head(entry);
    if (head.empty()) return std::nullopt;
    heads.push_back(lower(head));
    if (find_mark(entry) == nullptr) continue;  // another spelling follows
    part = take_part(entry);
    if (part.empty()) return std::nullopt;
  }

  const size_t end = headline_end(entry);
  const Forms forms(heads, entry.substr(0, end));
  const std::vector<std::string> words = definition(without_brackets(entry.substr(end)), forms);
  if (words.size() < kLeastWords) return std::nullopt;
  PartOfSpeech result{heads[0], std::string(part), {}};
  for (const std::string& word : words) result.text.append(result.text.empty() ? "" : " ").append(word);
  return result;
}

}  // namespace switchyard
