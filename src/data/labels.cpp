#include "src/data/labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/data/file.h"
#include "src/data/little_endian.h"
#include "src/data/utf8.h"

namespace switchyard {

namespace {

constexpr int64_t kMostFileBytes = int64_t{16} << 20;
constexpr size_t kMostDigits = 18;  // of a label that is a number

// A whole number as it is written: no leading zeros, so that two names are never one number.
std::optional<int64_t> whole_number(std::string_view name) {
  const bool negative = name.starts_with('-');
  const std::string_view digits = name.substr(negative ? 1 : 0);
  if (digits.empty() || digits.size() > kMostDigits || (digits[0] == '0' && (digits.size() > 1 || negative))) return std::nullopt;
  int64_t number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + (c - '0');
  }
  return negative ? -number : number;
}

void sort_by_name(std::vector<Label>& labels) {
  const bool numbers = std::all_of(labels.begin(), labels.end(), [](const Label& label) { return whole_number(label.name).has_value(); });
  std::sort(labels.begin(), labels.end(),
            [&](const Label& a, const Label& b) { return numbers ? *whole_number(a.name) < *whole_number(b.name) : a.name < b.name; });
}

Error bad(const std::string& path, const std::string& what) {
  return Error(ExitCode::kData, fmt::format("{} is not a usable list of labels: {}; tokenize the labelled texts again", path, what));
}

}  // namespace

Labels::Labels(std::vector<Label> labels) : labels_(std::move(labels)) {
  if (labels_.empty()) throw Error(ExitCode::kData, "there is no labelled text; a classifier needs examples of at least two classes");
  if (labels_.size() == 1) {
    throw Error(ExitCode::kData, fmt::format("every example has the label \"{}\"; a classifier needs examples of at least two classes", labels_[0].name));
  }
  if (labels_.size() > static_cast<size_t>(kMostLabels)) {
    throw Error(ExitCode::kData, fmt::format("there are {} different labels, and at most {} are allowed; is the column of the labels the right one?",
                                             labels_.size(), kMostLabels));
  }
  sort_by_name(labels_);
  for (const Label& label : labels_) {
    if (label.name.empty() || label.name.size() > kMostLabelBytes || first_invalid_byte(label.name) != label.name.size()) {
      throw Error(ExitCode::kData, fmt::format("a label has {} bytes or is not UTF-8, but must have 1 to {}; is the column of the labels the right one?",
                                               label.name.size(), kMostLabelBytes));
    }
    if (!numbers_.emplace(label.name, static_cast<int32_t>(numbers_.size())).second) {
      throw Error(ExitCode::kData, fmt::format("the label \"{}\" is listed twice; tokenize the labelled texts again", label.name));
    }
  }
}

std::vector<std::string> Labels::names() const {
  std::vector<std::string> names;
  for (const Label& label : labels_) names.push_back(label.name);
  return names;
}

std::optional<int32_t> Labels::find(std::string_view name) const {
  const auto found = numbers_.find(name);
  return found == numbers_.end() ? std::nullopt : std::optional(found->second);
}

Digest Labels::digest() const {
  std::string bytes;
  for (const Label& label : labels_) {
    append_little_endian(bytes, static_cast<uint32_t>(label.name.size()));
    bytes += label.name;
  }
  return digest_of(bytes);
}

void save_labels(const Labels& labels, const std::string& path) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (int32_t i = 0; i < labels.classes(); ++i) list.push_back({{"name", labels[i].name}, {"train", labels[i].train}, {"heldout", labels[i].heldout}});
  OutputFile file(path);
  file.append(nlohmann::ordered_json{{"labels", list}}.dump(2) + "\n");
  file.commit();
}

Labels load_labels(const std::string& path) {
  const InputFile file(path, "labels");
  if (file.size() > kMostFileBytes) throw bad(path, fmt::format("it has {} bytes, more than the {} of the largest", file.size(), kMostFileBytes));
  std::string bytes(static_cast<size_t>(file.size()), '\0');
  file.read(0, bytes.data(), file.size());
  const nlohmann::json json = nlohmann::json::parse(bytes, nullptr, false);
  if (json.is_discarded() || !json.is_object() || !json.contains("labels") || !json["labels"].is_array())
    throw bad(path, "it is no JSON object with \"labels\"");
  std::vector<Label> labels;
  for (const nlohmann::json& entry : json["labels"]) {
    const auto count = [&](const char* key) { return entry.contains(key) && entry[key].is_number_unsigned() ? entry[key].get<int64_t>() : -1; };
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() || count("train") < 0 || count("heldout") < 0) {
      throw bad(path, fmt::format("label {} has no name or no counts", labels.size()));
    }
    labels.push_back({entry["name"].get<std::string>(), count("train"), count("heldout")});
  }
  return Labels(std::move(labels));
}

}  // namespace switchyard
