// The names of classes, and how many examples each has.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/digest.h"

namespace switchyard {

inline constexpr int64_t kMostLabels = 10000;
inline constexpr size_t kMostLabelBytes = 256;

struct Label {
  std::string name;                // valid UTF-8, 1 to 256 bytes
  int64_t train = 0, heldout = 0;  // examples
};

// Class i is the i-th name: in order of their numbers if all are whole numbers, else of their bytes.
class Labels {
 public:
  Labels() = default;
  // Names in any order. Throws Error(kData) unless there are 2 to kMostLabels different names of allowed size.
  explicit Labels(std::vector<Label> labels);

  int32_t classes() const { return static_cast<int32_t>(labels_.size()); }
  const Label& operator[](int32_t label) const { return labels_[static_cast<size_t>(label)]; }
  const std::string& name(int32_t label) const { return (*this)[label].name; }
  std::vector<std::string> names() const;
  std::optional<int32_t> find(std::string_view name) const;
  // Of the names in order: example files and checkpoints name it.
  Digest digest() const;

 private:
  std::vector<Label> labels_;
  std::map<std::string, int32_t, std::less<>> numbers_;
};

// JSON: {"labels": [{"name": ..., "train": ..., "heldout": ...}, ...]}. Errors: kInputOutput; kData for a damaged file.
Labels load_labels(const std::string& path);
void save_labels(const Labels& labels, const std::string& path);

}  // namespace switchyard
