#include "src/data/csv_rows.h"

#include <fmt/format.h>

#include "src/base/error.h"

namespace switchyard {

CsvRows::CsvRows(const std::string& path, int64_t most_row_bytes, Visit visit) : path_(path), most_row_bytes_(most_row_bytes), visit_(std::move(visit)) {}

void CsvRows::add(std::string_view chunk) {
  for (const char c : chunk) take(c);
  if (static_cast<int64_t>(row_.size()) <= most_row_bytes_) return;
  const std::string why = state_ == State::kQuoted ? fmt::format("; is the quote of line {} ever closed?", quote_line_) : "; cut its texts";
  throw Error(ExitCode::kData, fmt::format("{}, line {}: a row of more than {} bytes{}", path_, row_line_, most_row_bytes_, why));
}

void CsvRows::take(char c) {
  switch (state_) {
    case State::kStart:
      if (c == '"') {
        quote_line_ = line_;
        quoted_row_ = true;
        state_ = State::kQuoted;
        break;
      }
      state_ = State::kPlain;
      [[fallthrough]];
    case State::kPlain:
      if (c == '"') {
        throw Error(ExitCode::kData,
                    fmt::format("{}, line {}: a quote stands inside a field that does not begin with one; put the field in quotes and double those in it",
                                path_, line_));
      }
      if (c == ',') {
        end_field();
      } else if (c == '\n') {
        const size_t begin = ends_.empty() ? 0 : ends_.back();
        if (row_.size() > begin && row_.back() == '\r') row_.pop_back();
        end_row();
      } else {
        row_ += c;
      }
      break;
    case State::kQuoted:
      if (c == '"') {
        state_ = State::kQuote;
      } else {
        row_ += c;
      }
      break;
    case State::kQuote:
    case State::kQuoteReturn: take_after_quote(c); break;
  }
  line_ += c == '\n';
  if (c == '\n' && state_ == State::kStart && ends_.empty()) row_line_ = line_;
}

void CsvRows::take_after_quote(char c) {
  if (c == '\n') return end_row();
  if (state_ == State::kQuote && c == '"') {
    row_ += '"';
    state_ = State::kQuoted;
  } else if (state_ == State::kQuote && c == ',') {
    end_field();
  } else if (state_ == State::kQuote && c == '\r') {
    state_ = State::kQuoteReturn;
  } else {
    throw Error(ExitCode::kData, fmt::format("{}, line {}: the quote that was opened in line {} is closed, but the field goes on after it; double the quotes "
                                             "inside a field",
                                             path_, line_, quote_line_));
  }
}

void CsvRows::end_field() {
  if (ends_.size() == kMostColumns)
    throw Error(ExitCode::kData, fmt::format("{}, line {}: a row of more than {} columns; is it CSV?", path_, row_line_, kMostColumns));
  ends_.push_back(row_.size());
  state_ = State::kStart;
}

void CsvRows::end_row() {
  end_field();
  const bool empty_line = ends_.size() == 1 && row_.empty() && !quoted_row_;
  if (!empty_line) {
    fields_.clear();
    size_t begin = 0;
    for (const size_t end : ends_) {
      fields_.push_back(std::string_view(row_).substr(begin, end - begin));
      begin = end;
    }
    visit_(fields_, row_line_);
  }
  row_.clear();
  ends_.clear();
  quoted_row_ = false;
}

void CsvRows::finish() {
  if (state_ == State::kQuoted) {
    throw Error(ExitCode::kData,
                fmt::format("{}, line {}: a quote is opened here and never closed; close it, and double the quotes inside a field", path_, quote_line_));
  }
  if (state_ != State::kStart || !ends_.empty()) end_row();
}

}  // namespace switchyard
