#include "src/data/labelled_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/data/csv_rows.h"
#include "src/data/labels.h"
#include "src/data/utf8.h"

namespace switchyard {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr const char* kUsualLabel = "label";
constexpr const char* kUsualText = "text";
constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

Error bad(const std::string& path, int64_t line, const std::string& what) { return Error(ExitCode::kData, fmt::format("{}, line {}: {}", path, line, what)); }

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kWhiteSpace);
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(kWhiteSpace) + 1 - begin);
}

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

// Calls on_chunk for each piece of a file, without a byte order mark in front.
void read_chunks(const std::string& path, LabelledReader& reader, const std::function<void(std::string_view)>& on_chunk) {
  TextStream stream = reader.open(path);
  bool first = true;
  for (std::string_view chunk = stream.next(); !chunk.empty(); chunk = stream.next()) {
    if (first && chunk.starts_with(kByteOrderMark)) chunk.remove_prefix(kByteOrderMark.size());
    first = false;
    on_chunk(chunk);
  }
  reader.counts.bytes += stream.bytes();
}

// Calls on_line for each line, without its end (LF or CR LF) and with its number, from 1. Empty lines are passed over.
void read_lines(const std::string& path, LabelledReader& reader, const std::function<void(std::string_view, int64_t)>& on_line) {
  std::string line;
  int64_t number = 1;
  const auto finish = [&] {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) on_line(line, number);
    line.clear();
    ++number;
  };
  read_chunks(path, reader, [&](std::string_view chunk) {
    for (size_t end = chunk.find('\n'); end != chunk.npos; end = chunk.find('\n')) {
      line += chunk.substr(0, end);
      finish();
      chunk.remove_prefix(end + 1);
    }
    line += chunk;
    if (static_cast<int64_t>(line.size()) > reader.options.most_text_bytes) {
      throw bad(path, number, fmt::format("a line of more than {} bytes; cut its text", reader.options.most_text_bytes));
    }
  });
  finish();
}

// The fields of a line; the last of `columns` takes the rest of the line.
std::vector<std::string_view> split_at_tabs(std::string_view line, size_t columns) {
  std::vector<std::string_view> fields;
  while (fields.size() + 1 < columns) {
    const size_t tab = line.find('\t');
    if (tab == line.npos) break;
    fields.push_back(line.substr(0, tab));
    line.remove_prefix(tab + 1);
  }
  fields.push_back(line);
  return fields;
}

// A column's number from 0, if `column` is written as a number.
std::optional<size_t> number_of(const std::string& column) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(column.data(), column.data() + column.size(), number);
  if (error != std::errc() || end != column.data() + column.size()) return std::nullopt;
  if (number == 0) throw Error(ExitCode::kUsage, "column 0 was asked for, but columns are numbered from 1");
  return number - 1;
}

std::optional<size_t> find_name(std::string_view name, const std::vector<std::string_view>& row) {
  for (size_t i = 0; i < row.size(); ++i) {
    if (same_name(trimmed(row[i]), name)) return i;
  }
  return std::nullopt;
}

std::string joined(const std::vector<std::string_view>& row) {
  std::string text;
  for (const std::string_view field : row) text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", field.substr(0, 40));
  return text.substr(0, 400);
}

}  // namespace

void LabelledReader::add(std::string_view label, std::string_view text, const std::string& path, int64_t line) {
  label = trimmed(valid(label, repaired_label_, path, line));
  text = valid(text, repaired_text_, path, line);
  const LabelledExample example{label, text, path, line};
  if (label.empty()) throw Error(ExitCode::kData, fmt::format("{}: the label is empty; give the text a label or remove it", example.place()));
  if (label.size() > kMostLabelBytes) {
    throw Error(ExitCode::kData, fmt::format("{}: a label of {} bytes, where {} are allowed; is the column of the labels the right one?", example.place(),
                                             label.size(), kMostLabelBytes));
  }
  ++counts.examples;
  visit_(example);
}

std::string_view LabelledReader::valid(std::string_view bytes, std::string& repaired, const std::string& path, int64_t line) {
  size_t invalid = first_invalid_byte(bytes);
  if (invalid == bytes.size()) return bytes;
  if (options.encoding == Encoding::kUtf8) {
    const LabelledExample example{{}, {}, path, line};
    throw Error(ExitCode::kData, fmt::format("{}: byte {} of the field or file is not UTF-8 (0x{:02x}); convert it, or read it with --encoding cp1252-fallback",
                                             example.place(), invalid, static_cast<unsigned char>(bytes[invalid])));
  }
  repaired = with_cp1252(bytes);
  for (std::string_view rest = bytes; invalid < rest.size(); invalid = first_invalid_byte(rest)) {
    ++counts.replaced_bytes;
    rest.remove_prefix(invalid + 1);
  }
  return repaired;
}

Columns columns_of(const LabelledOptions& options, const std::vector<std::string_view>& first_row, const std::string& path) {
  const std::optional<size_t> label_number = number_of(options.label_column), text_number = number_of(options.text_column);
  const bool named = (!options.label_column.empty() && !label_number) || (!options.text_column.empty() && !text_number);
  Columns columns{label_number.value_or(0), text_number.value_or(1), options.header || named};
  if (named) {
    const auto demand = [&](const std::string& name) {
      if (const auto found = find_name(name, first_row)) return *found;
      throw Error(ExitCode::kUsage, fmt::format("the first row of {} has no column \"{}\" but {}; name the columns of label and text, or give their numbers",
                                                path, name, joined(first_row)));
    };
    if (!label_number) columns.label = demand(options.label_column.empty() ? kUsualLabel : options.label_column);
    if (!text_number) columns.text = demand(options.text_column.empty() ? kUsualText : options.text_column);
  } else if (!label_number && !text_number) {
    const auto label = find_name(kUsualLabel, first_row), text = find_name(kUsualText, first_row);
    if (label && text) columns = {*label, *text, true};
  }
  if (columns.label == columns.text) {
    throw Error(ExitCode::kUsage, fmt::format("label and text are both column {} of {}; name both columns", columns.label + 1, path));
  }
  return columns;
}

void read_tsv(const std::string& path, LabelledReader& reader) {
  std::optional<Columns> columns;
  size_t wanted = 0;  // columns of a row
  read_lines(path, reader, [&](std::string_view line, int64_t number) {
    if (!columns) {
      const std::vector<std::string_view> first = split_at_tabs(line, kMostColumns);
      columns = columns_of(reader.options, first, path);
      wanted = std::max(columns->label, columns->text) + 1;
      if (columns->header) {
        wanted = std::max(wanted, first.size());
        return;
      }
    }
    const std::vector<std::string_view> fields = split_at_tabs(line, wanted);
    if (fields.size() <= std::max(columns->label, columns->text)) {
      throw bad(path, number, fmt::format("expected {} columns with tabs between them, found {}", wanted, fields.size()));
    }
    reader.add(fields[columns->label], fields[columns->text], path, number);
  });
}

void read_csv(const std::string& path, LabelledReader& reader) {
  std::optional<Columns> columns;
  size_t wanted = 0;
  CsvRows rows(path, reader.options.most_text_bytes, [&](const std::vector<std::string_view>& fields, int64_t line) {
    if (!columns) {
      columns = columns_of(reader.options, fields, path);
      wanted = fields.size();
      if (std::max(columns->label, columns->text) >= wanted) {
        throw bad(path, line, fmt::format("found {} columns, where label and text are columns {} and {}", wanted, columns->label + 1, columns->text + 1));
      }
      if (columns->header) return;
    }
    if (fields.size() != wanted) {
      throw bad(path, line, fmt::format("a row of {} columns, where the first one has {}; put texts with commas in quotes", fields.size(), wanted));
    }
    reader.add(fields[columns->label], fields[columns->text], path, line);
  });
  read_chunks(path, reader, [&](std::string_view chunk) { rows.add(chunk); });
  rows.finish();
}

void read_jsonl(const std::string& path, LabelledReader& reader) {
  const std::string label_name = reader.options.label_column.empty() ? kUsualLabel : reader.options.label_column;
  const std::string text_name = reader.options.text_column.empty() ? kUsualText : reader.options.text_column;
  std::string repaired;
  read_lines(path, reader, [&](std::string_view line, int64_t number) {
    if (trimmed(line).empty()) return;
    const nlohmann::json object = nlohmann::json::parse(reader.valid(line, repaired, path, number), nullptr, false);
    if (!object.is_object()) throw bad(path, number, fmt::format("expected a JSON object like {{\"{}\": ..., \"{}\": ...}}", label_name, text_name));
    const auto label = object.find(label_name), text = object.find(text_name);
    if (label == object.end() || !(label->is_string() || label->is_number() || label->is_boolean())) {
      throw bad(path, number, fmt::format("the object has no member \"{}\" that is a string, a number, true or false", label_name));
    }
    if (text == object.end() || !text->is_string()) throw bad(path, number, fmt::format("the object has no member \"{}\" that is a string", text_name));
    reader.add(label->is_string() ? label->get<std::string>() : label->dump(), text->get_ref<const std::string&>(), path, number);
  });
}

void read_text_file(const std::string& path, const std::string& label, LabelledReader& reader) {
  std::string text;
  read_chunks(path, reader, [&](std::string_view chunk) {
    text += chunk;
    if (static_cast<int64_t>(text.size()) > reader.options.most_text_bytes) {
      throw Error(ExitCode::kData, fmt::format("{} has more than the {} bytes that one text may have; cut it", path, reader.options.most_text_bytes));
    }
  });
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  reader.add(label, text, path, 0);
}

}  // namespace switchyard
