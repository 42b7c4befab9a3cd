// Rows of CSV, as in RFC 4180: fields end at commas, rows at line ends; a field in double quotes may hold both, and quotes
// that are doubled. Line ends are LF or CR LF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

inline constexpr size_t kMostColumns = 10000;

class CsvRows {
 public:
  // Line 1 is the first one. The views live until it returns. Empty lines are no rows.
  using Visit = std::function<void(const std::vector<std::string_view>& fields, int64_t line)>;

  // `path` is named in messages.
  CsvRows(const std::string& path, int64_t most_row_bytes, Visit visit);

  // The next bytes of the file. Throws Error(kData) naming the line of a quote in the wrong place, or of a row that is larger
  // than allowed.
  void add(std::string_view chunk);
  // At the end of the file. Throws Error(kData) naming the line of a quote that is never closed.
  void finish();

 private:
  enum class State : uint8_t { kStart, kPlain, kQuoted, kQuote, kQuoteReturn };  // kQuote: a quote in a quoted field came last

  void take(char c);
  void take_after_quote(char c);
  void end_field();
  void end_row();

  std::string path_;
  int64_t most_row_bytes_;
  Visit visit_;
  State state_ = State::kStart;
  std::string row_;           // contents of its fields, one after the other
  std::vector<size_t> ends_;  // of the finished fields
  std::vector<std::string_view> fields_;
  int64_t line_ = 1, row_line_ = 1, quote_line_ = 0;  // of the next byte, of the row, of the last opening quote
  bool quoted_row_ = false;
};

}  // namespace switchyard
