// The header of a safetensors file: a JSON object of a fixed form, read event by event so that no document is built and
// nothing is accepted that the form does not have.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "src/checkpoint/safetensors.h"

namespace switchyard {
namespace {

using Fault = SafetensorsFault;
using nlohmann::json;

bool lies_before(const SafetensorsEntry& a, const SafetensorsEntry& b) { return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name); }

// {"<name>": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text", ...}}
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& file) : file_(file) {}

  std::vector<SafetensorsEntry> take() {
    if (place_ != Place::kEnd) fail(Fault::kInvalidJson, "ends too early");
    return std::move(entries_);
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = metadata_ ? Place::kMetadata : Place::kEntry;
      seen_ = {};
    } else {
      fail(Fault::kNestingTooDeep, "nests deeper than the format does");
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::kEntry) {
      finish_entry();
      place_ = Place::kTop;
    } else {
      place_ = place_ == Place::kMetadata ? Place::kTop : Place::kEnd;
    }
    return true;
  }
  bool key(std::string& text) override {
    if (text.size() > kMaxNameBytes) fail(Fault::kNameTooLong, fmt::format("has a name of {} bytes, more than {}", text.size(), kMaxNameBytes));
    if (place_ == Place::kTop) {
      if (!names_.insert(text).second) fail(Fault::kDuplicateName, "names '" + text + "' twice");
      if (names_.size() > kMaxTensors) fail(Fault::kTooManyTensors, fmt::format("has more than {} tensors", kMaxTensors));
      metadata_ = text == "__metadata__";
      if (!metadata_) entries_.push_back({text, Dtype::kF32, {}, 0, 0});
    } else if (place_ == Place::kEntry) {
      const auto* member = std::find(kMembers.begin(), kMembers.end(), text);
      if (member == kMembers.end()) fail(Fault::kInvalidJson, "has an unknown member '" + text + "'");
      member_ = static_cast<size_t>(member - kMembers.begin());
      if (seen_[member_]) fail(Fault::kDuplicateName, "has the member '" + text + "' twice");
      seen_[member_] = true;
    }
    return true;
  }
  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kEntry || member_ != kDtype) fail(Fault::kInvalidJson, "has text where it may have none");
    const std::optional<Dtype> dtype = dtype_named(text);
    if (!dtype) fail(Fault::kUnknownDtype, "has dtype '" + text.substr(0, 16) + "', which is none of F64, F32, BF16, I32");
    entries_.back().dtype = *dtype;
    return true;
  }
  bool start_array(std::size_t) override {
    if (place_ == Place::kArray) fail(Fault::kNestingTooDeep, "nests deeper than the format does");
    if (place_ != Place::kEntry || member_ == kDtype) fail(Fault::kInvalidJson, "has a list where it may have none");
    place_ = Place::kArray;
    numbers_.clear();
    return true;
  }
  bool number_unsigned(json::number_unsigned_t value) override {
    if (place_ != Place::kArray) fail(Fault::kInvalidJson, "has a number where it may have none");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) fail(Fault::kOverflow, fmt::format("has the number {}, beyond 63 bits", value));
    if (numbers_.size() == kMaxRank) fail(Fault::kRankTooHigh, fmt::format("has a list of more than {} numbers", kMaxRank));
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool end_array() override {
    place_ = Place::kEntry;
    SafetensorsEntry& entry = entries_.back();
    if (member_ == kShape) {
      shape_ = numbers_;
      return true;
    }
    if (numbers_.size() != 2) fail(Fault::kInvalidJson, "has data_offsets that are not two numbers");
    entry.begin = numbers_[0];
    entry.end = numbers_[1];
    return true;
  }
  bool null() override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool number_integer(json::number_integer_t) override { return unexpected(); }  // negative ones only
  bool number_float(json::number_float_t, const std::string&) override { return unexpected(); }
  bool binary(json::binary_t&) override { return unexpected(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    const bool encoding = std::string(error.what()).find("UTF-8") != std::string::npos;
    fail(encoding ? Fault::kInvalidHeader : Fault::kInvalidJson, fmt::format("is not {} at byte {}", encoding ? "UTF-8" : "JSON", position));
  }

 private:
  enum class Place { kStart, kTop, kEntry, kArray, kMetadata, kEnd };
  static constexpr std::array<const char*, 3> kMembers{"dtype", "shape", "data_offsets"};
  static constexpr size_t kDtype = 0, kShape = 1;

  [[noreturn]] void fail(Fault fault, const std::string& what) const {
    const std::string where = entries_.empty() ? "" : " (at tensor '" + entries_.back().name + "')";
    throw SafetensorsError(fault, "the header of " + file_ + " " + what + where + "; the file is damaged or no safetensors file");
  }
  bool unexpected() const { fail(Fault::kInvalidJson, "has a value of a kind that the format does not have"); }

  // Sizes are multiplied with checks before a Shape exists.
  void finish_entry() {
    if (seen_ != std::array<bool, 3>{true, true, true}) fail(Fault::kInvalidJson, "lacks dtype, shape or data_offsets");
    SafetensorsEntry& entry = entries_.back();
    int64_t bytes = size_of(entry.dtype);
    for (int64_t extent : shape_) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) fail(Fault::kOverflow, "has a shape whose size does not fit in 63 bits");
    }
    if (entry.end < entry.begin) fail(Fault::kInvalidOffset, "has data that end before they begin");
    if (entry.end - entry.begin != bytes) {
      fail(Fault::kInvalidTensor, fmt::format("gives {} bytes to a tensor that needs {}", entry.end - entry.begin, bytes));
    }
    entry.shape = shape_of(shape_);
  }

  const std::string& file_;
  Place place_ = Place::kStart;
  bool metadata_ = false;
  size_t member_ = 0;
  std::array<bool, 3> seen_{};
  std::vector<int64_t> numbers_, shape_;
  std::set<std::string> names_;
  std::vector<SafetensorsEntry> entries_;
};

void check_layout(std::vector<SafetensorsEntry>& entries, int64_t data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), lies_before);
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end) {
      throw SafetensorsError(Fault::kInvalidOffset, fmt::format("tensor '{}' of {} begins at byte {} but the one before it ends at {}; the file is damaged",
                                                                entry.name, file, entry.begin, end));
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    throw SafetensorsError(
        Fault::kIncompleteBuffer,
        fmt::format("the tensors of {} fill {} bytes but its data section has {}; it is truncated or has something appended", file, end, data_bytes));
  }
}

}  // namespace

std::optional<Dtype> dtype_named(const std::string& text) {
  for (Dtype dtype : {Dtype::kF64, Dtype::kF32, Dtype::kBF16, Dtype::kI32}) {
    if (text == name(dtype)) return dtype;
  }
  return std::nullopt;
}

Shape shape_of(const std::vector<int64_t>& extents) {
  switch (extents.size()) {
    case 0: return {};
    case 1: return {extents[0]};
    case 2: return {extents[0], extents[1]};
    case 3: return {extents[0], extents[1], extents[2]};
    default: return {extents[0], extents[1], extents[2], extents[3]};
  }
}

int64_t safetensors_header_bytes(std::string_view first, int64_t file_bytes, const std::string& name) {
  if (file_bytes < 8 || first.size() < 8)
    throw SafetensorsError(Fault::kHeaderTooSmall, fmt::format("{} has {} bytes, too few for a safetensors file", name, file_bytes));
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = (length << 8) | static_cast<unsigned char>(first[i]);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    throw SafetensorsError(Fault::kHeaderTooLarge,
                           fmt::format("{} says that its header has {} bytes, more than the {} allowed", name, length, kMaxHeaderBytes));
  }
  if (static_cast<int64_t>(length) > file_bytes - 8) {
    throw SafetensorsError(Fault::kInvalidHeaderLength,
                           fmt::format("{} says that its header has {} bytes but the file has {} in all; it is truncated", name, length, file_bytes));
  }
  return static_cast<int64_t>(length);
}

std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view header, int64_t data_bytes, const std::string& name) {
  const size_t last = header.find_last_not_of(' ');
  if (header.empty() || header.front() != '{' || header[last] != '}') {
    throw SafetensorsError(Fault::kInvalidHeaderStart, "the header of " + name + " is not an object in braces, padded with spaces; the file is damaged");
  }
  HeaderReader reader(name);
  json::sax_parse(header.substr(0, last + 1), &reader);
  std::vector<SafetensorsEntry> entries = reader.take();
  check_layout(entries, data_bytes, name);
  return entries;
}

std::string render_safetensors_header(std::vector<SafetensorsEntry> entries) {
  std::sort(entries.begin(), entries.end(), lies_before);
  std::string text = "{";
  for (const SafetensorsEntry& entry : entries) {
    if (text.size() > 1) text += ',';
    text += json(entry.name).dump() + ":{\"dtype\":\"" + name(entry.dtype) + "\",\"shape\":[";
    for (int axis = 0; axis < entry.shape.rank(); ++axis) text += fmt::format("{}{}", axis == 0 ? "" : ",", entry.shape[axis]);
    text += fmt::format("],\"data_offsets\":[{},{}]}}", entry.begin, entry.end);
  }
  text += '}';
  while ((text.size() + 8) % 64 != 0) text += ' ';
  std::string start;
  for (int i = 0; i < 8; ++i) start += static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i) & 0xff);
  return start + text;
}

}  // namespace switchyard
