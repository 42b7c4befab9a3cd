// How the SentencePiece tokenizer cuts text before the library sees it. Training and encoding cut alike.
//
// A word is a run of spaces and the run of other characters after it. Learned pieces hold no space but in front, or are
// spaces only, so the best segmentation of a text is that of its words one by one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "src/data/utf8.h"

namespace switchyard {

inline constexpr int kLineEndPieces = 16;
inline constexpr size_t kMostWordBytes = 1024;                  // a longer one is cut, at a character
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, the library's sign for a space

// Calls, in order of the text (valid UTF-8): on_line_end(k) for a line end and k spaces after it; on_byte(b) for each byte
// that the library must not see; on_word(view) for everything else.
// After a line end all spaces but the last go with it, so that an indented word is the same word as one inside a line.
template <class OnLineEnd, class OnByte, class OnWord>
void cut_segments(std::string_view text, OnLineEnd on_line_end, OnByte on_byte, OnWord on_word) {
  const auto special = [](std::string_view rest) { return rest[0] == '\n' || rest[0] == '\0' || rest.starts_with(kSpaceMark); };
  while (!text.empty()) {
    if (text[0] == '\n') {
      const size_t spaces = std::min(text.find_first_not_of(' ', 1), text.size()) - 1;
      const size_t taken = std::min<size_t>(spaces == 0 ? 0 : spaces - 1, kLineEndPieces - 1);
      on_line_end(static_cast<int>(taken));
      text.remove_prefix(1 + taken);
    } else if (special(text)) {
      const size_t bytes = text[0] == '\0' ? 1 : kSpaceMark.size();
      for (size_t i = 0; i < bytes; ++i) on_byte(static_cast<uint8_t>(text[i]));
      text.remove_prefix(bytes);
    } else {
      size_t end = 0;
      while (end < text.size() && text[end] == ' ' && end < kMostWordBytes - 4) ++end;
      while (end < text.size() && text[end] != ' ' && !special(text.substr(end))) {
        const size_t length = character_length(text.substr(end));
        if (end + length > kMostWordBytes) break;
        end += length;
      }
      on_word(text.substr(0, end));
      text.remove_prefix(end);
    }
  }
}

}  // namespace switchyard
