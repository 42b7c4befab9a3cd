#include "src/checkpoint/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "src/base/checked.h"
#include "src/checkpoint/checksum.h"
#include "src/checkpoint/safetensors.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "switchyard checkpoint";
constexpr std::string_view kChecksumMember = ",\n\"checksum\": \"";
constexpr size_t kTailBytes = kChecksumMember.size() + 32 + 4;  // 32 digits, and "\n}\n after them
constexpr int kMaxDepth = 5;

// The JSON library parses without recursion but builds what it parses; nesting is bounded before.
void check_depth(const std::string& text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) throw Error(ExitCode::kData, "nests too deep");
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

// An object whose members are taken by name, each with its type; what is left over at the end is an error.
class Members {
 public:
  Members(const ordered_json& value, const char* what) : value_(value), what_(what) {
    if (!value.is_object()) throw Error(ExitCode::kData, fmt::format("has a {} that is not an object", what));
  }
  const ordered_json& any(const char* name) {
    const auto found = value_.find(name);
    if (found == value_.end()) throw Error(ExitCode::kData, fmt::format("has a {} without '{}'", what_, name));
    ++taken_;
    return *found;
  }
  bool has(const char* name) const { return value_.contains(name); }
  std::string text(const char* name) {
    const ordered_json& value = any(name);
    if (!value.is_string()) wrong(name, "text");
    return value.get<std::string>();
  }
  std::string hex(const char* name, size_t digits) {
    std::string value = text(name);
    if (!is_hex(value, digits)) wrong(name, "hexadecimal digits");
    return value;
  }
  int64_t count(const char* name) {
    const uint64_t value = word(name);
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) wrong(name, "below 2^63");
    return static_cast<int64_t>(value);
  }
  double finite(const char* name) {
    const ordered_json& value = any(name);
    if (!value.is_number() || !std::isfinite(value.get<double>())) wrong(name, "a finite number");
    return value.get<double>();
  }
  uint64_t word(const char* name) {
    const ordered_json& value = any(name);
    if (!value.is_number_unsigned()) wrong(name, "a whole number, not negative");
    return value.get<uint64_t>();
  }
  const ordered_json& list(const char* name) {
    const ordered_json& value = any(name);
    if (!value.is_array()) wrong(name, "a list");
    return value;
  }
  void finish() const {
    if (taken_ != value_.size()) throw Error(ExitCode::kData, fmt::format("has a {} with {} members where the format has {}", what_, value_.size(), taken_));
  }

 private:
  [[noreturn]] void wrong(const char* name, const char* rule) const {
    throw Error(ExitCode::kData, fmt::format("has a {} whose '{}' is not {}", what_, name, rule));
  }
  const ordered_json& value_;
  const char* what_;
  size_t taken_ = 0;
};

BestEvaluation read_best(const ordered_json& value) {
  Members members(value, "best");
  BestEvaluation best;
  best.step = members.count("step");
  best.loss = members.finite("loss");
  best.since = members.count("since");
  members.finish();
  return best;
}

StateInfo read_info(const ordered_json& value) {
  Members members(value, "run");
  StateInfo info;
  info.step = members.count("step");
  info.cursor = members.count("cursor");
  info.skips = members.count("skips");
  info.tokens = members.count("tokens");
  if (members.has("best")) info.best = read_best(members.any("best"));
  info.seed = members.word("seed");
  info.config = members.text("config");
  info.precision = members.text("precision");
  if (members.has("tokenizer")) info.tokenizer = members.hex("tokenizer", 32);
  info.code = members.text("code");
  info.ranks = static_cast<int>(std::min<int64_t>(members.count("ranks"), std::numeric_limits<int>::max()));
  members.finish();
  if (info.best.step > info.step) throw Error(ExitCode::kData, "has its best evaluation after its last step");
  if (info.skips > info.step) throw Error(ExitCode::kData, "counts more skipped steps than steps");
  return info;
}

ManifestFile read_file(const ordered_json& value) {
  Members members(value, "file");
  ManifestFile file;
  file.name = members.text("name");
  file.bytes = members.count("bytes");
  file.checksum = members.hex("xxh3_128", 32);
  members.finish();
  if (!is_safe_name(file.name) || file.name == kManifestName) throw Error(ExitCode::kData, "names a file that a checkpoint may not name");
  return file;
}

// Shape, dtype and offsets are checked against the file's header, which is checked byte by byte.
ManifestTensor read_tensor(const ordered_json& value, size_t files) {
  Members members(value, "tensor");
  ManifestTensor tensor;
  tensor.name = members.text("name");
  tensor.file = static_cast<size_t>(members.count("file"));
  const std::string dtype = members.text("dtype");
  std::vector<int64_t> extents;
  for (const ordered_json& extent : members.list("shape")) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) || extents.size() == kMaxRank) {
      throw Error(ExitCode::kData, "has a tensor whose 'shape' is not a list of at most 4 whole numbers");
    }
    extents.push_back(extent.get<int64_t>());
  }
  tensor.begin = members.count("begin");
  tensor.end = members.count("end");
  tensor.checksum = members.hex("xxh3_128", 32);
  members.finish();
  const std::optional<Dtype> known = dtype_named(dtype);
  tensor.dtype = known.value_or(Dtype::kF32);
  int64_t bytes = size_of(tensor.dtype);
  bool fits = known.has_value() && tensor.file < files && tensor.name.size() <= kMaxNameBytes;
  for (int64_t extent : extents) fits = fits && extent > 0 && !__builtin_mul_overflow(bytes, extent, &bytes);
  if (!fits || tensor.begin > tensor.end || tensor.end - tensor.begin != bytes) {
    throw Error(ExitCode::kData, "describes tensor '" + tensor.name.substr(0, kMaxNameBytes) + "' with a file, dtype, shape or place that cannot be");
  }
  tensor.shape = shape_of(extents);
  return tensor;
}

Manifest read_manifest(const std::string& text) {
  check_depth(text);
  const ordered_json value = ordered_json::parse(text);
  Members members(value, "manifest");
  Manifest manifest;
  if (members.text("format") != kFormat) throw Error(ExitCode::kData, "is not a switchyard checkpoint's");
  const int64_t version = members.count("version");
  if (version != kFormatVersion) throw Error(ExitCode::kData, fmt::format("has format version {}, and this program reads {}", version, kFormatVersion));
  manifest.info = read_info(members.any("run"));
  manifest.state_digest = members.hex("state_digest", 64);
  std::set<std::string> names;
  for (const ordered_json& entry : members.list("files")) {
    manifest.files.push_back(read_file(entry));
    if (!names.insert(manifest.files.back().name).second) throw Error(ExitCode::kData, "names a file twice");
  }
  for (const ordered_json& entry : members.list("tensors")) {
    manifest.tensors.push_back(read_tensor(entry, manifest.files.size()));
    const size_t count = manifest.tensors.size();
    if (count > 1 && manifest.tensors[count - 2].name >= manifest.tensors[count - 1].name)
      throw Error(ExitCode::kData, "names its tensors out of order, or one twice");
  }
  members.hex("checksum", 32);
  members.finish();
  return manifest;
}

}  // namespace

std::string render_manifest(const Manifest& manifest) {
  const StateInfo& info = manifest.info;
  try {
    ordered_json run = {{"step", info.step},     {"cursor", info.cursor},       {"skips", info.skips}, {"tokens", info.tokens}, {"seed", info.seed},
                        {"config", info.config}, {"precision", info.precision}, {"code", info.code},   {"ranks", info.ranks}};
    if (!info.tokenizer.empty()) run["tokenizer"] = info.tokenizer;
    if (info.best.step > 0) run["best"] = {{"step", info.best.step}, {"loss", info.best.loss}, {"since", info.best.since}};
    std::string text = fmt::format("{{\n\"format\": \"{}\",\n\"version\": {},\n\"run\": {},\n\"state_digest\": \"{}\",\n\"files\": [", kFormat, kFormatVersion,
                                   run.dump(), manifest.state_digest);
    const char* separator = "\n";
    for (const ManifestFile& file : manifest.files) {
      text += separator + ordered_json({{"name", file.name}, {"bytes", file.bytes}, {"xxh3_128", file.checksum}}).dump();
      separator = ",\n";
    }
    text += "\n],\n\"tensors\": [";
    separator = "\n";
    for (const ManifestTensor& tensor : manifest.tensors) {
      ordered_json shape = ordered_json::array();
      for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
      const ordered_json entry = {{"name", tensor.name},   {"file", tensor.file}, {"dtype", name(tensor.dtype)}, {"shape", shape},
                                  {"begin", tensor.begin}, {"end", tensor.end},   {"xxh3_128", tensor.checksum}};
      text += separator + entry.dump();
      separator = ",\n";
    }
    text += "\n]";
    return text + std::string(kChecksumMember) + to_hex(checksum(text)) + "\"\n}\n";
  } catch (const nlohmann::json::exception& error) {
    throw Error(ExitCode::kData, std::string("the configuration or a name cannot be stored as JSON: ") + error.what());
  }
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  try {
    if (text.size() < kTailBytes) throw Error(ExitCode::kData, "is too short");
    const std::string_view body(text.data(), text.size() - kTailBytes);
    const std::string tail = std::string(kChecksumMember) + to_hex(checksum(body)) + "\"\n}\n";
    if (text.compare(body.size(), kTailBytes, tail) != 0)
      throw Error(ExitCode::kData, "does not have the checksum that it should end with; it was changed or is not complete");
    return read_manifest(text);
  } catch (const Error& error) {
    throw Error(error.code(), path + " " + error.what());
  } catch (const nlohmann::json::exception&) {
    throw Error(ExitCode::kData, path + " is not JSON");
  }
}

std::string expected_start(const Manifest& manifest, size_t index) {
  std::vector<SafetensorsEntry> entries;
  for (const ManifestTensor& tensor : manifest.tensors) {
    if (tensor.file == index) entries.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.begin, tensor.end});
  }
  return render_safetensors_header(entries);
}

}  // namespace switchyard
