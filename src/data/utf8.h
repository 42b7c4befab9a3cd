// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace switchyard {

// Bytes of the well-formed character at the front of `text`: 1 to 4, or 0 where there is none.
size_t character_length(std::string_view text);

// Offset of the first byte that belongs to no well-formed character; text.size() if there is none.
size_t first_invalid_byte(std::string_view text);

// `text` with each byte that belongs to no well-formed character read as Windows-1252. The five bytes that this code page
// leaves open become the C1 controls of the same number, as in the WHATWG's table.
std::string with_cp1252(std::string_view text);

}  // namespace switchyard
