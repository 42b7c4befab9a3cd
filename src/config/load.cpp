#include "src/config/load.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <set>

#include "src/base/error.h"
#include "src/config/fields.h"
#include "src/config/preset.h"

namespace switchyard {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

// Text from a hostile file as part of a sentence: one line, printable, not endless.
std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 200)) result += c >= 0x20 && c < 0x7f ? c : '?';
  return text.size() > 200 ? result + "..." : result;
}

// The text between the first pair of quotes at or after `from`, and the place behind it.
std::string quoted(const std::string& text, size_t& from) {
  const size_t begin = text.find('"', from);
  const size_t end = begin == std::string::npos ? begin : text.find('"', begin + 1);
  if (end == std::string::npos) return {};
  from = end + 1;
  return text.substr(begin + 1, end - begin - 1);
}

// The library's complaint, with what the library does not tell: the nearest known name, the values allowed.
std::string explain(const std::string& complaint) {
  size_t from = 0;
  const auto& pool = *Config::descriptor()->file()->pool();
  if (complaint.starts_with("Message type \"")) {
    const Descriptor* message = pool.FindMessageTypeByName(quoted(complaint, from));
    const std::string name = quoted(complaint, from);
    if (message == nullptr) return printable(complaint);
    return fmt::format("unknown field \"{}\"{}", printable(name), suggestion(*message, name));
  }
  if (complaint.starts_with("Unknown enumeration value of \"")) {
    const std::string value = quoted(complaint, from);
    const std::string name = quoted(complaint, from);
    std::string allowed;
    visit_fields(Config::default_instance(), [&](const Field& field) {
      if (field.descriptor->name() == name && field.descriptor->enum_type() != nullptr) allowed = values_of(*field.descriptor->enum_type());
    });
    return fmt::format("{} is \"{}\" but must be {}", printable(name), printable(value), allowed);
  }
  if (complaint.starts_with("Non-repeated field \"")) return fmt::format("field \"{}\" is given more than once; keep one", printable(quoted(complaint, from)));
  if (complaint.find("recursion limit") != std::string::npos) return fmt::format("groups are nested more than {} deep", kMaxConfigNesting);
  std::string sentence = printable(complaint);
  while (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

// Keeps the first complaint. Lines and columns count from 1 in it.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (found_) return;
    found_ = true;
    position_ = line < 0 ? "" : fmt::format(":{}:{}", line + 1, column + 1);
    sentence_ = explain(message);
  }
  const std::string& position() const { return position_; }
  std::string sentence() const { return found_ ? sentence_ : "this is not a configuration"; }

 private:
  bool found_ = false;
  std::string position_, sentence_;
};

TextFormat::Parser strict_parser(FirstError& errors) {
  TextFormat::Parser parser;
  parser.SetRecursionLimit(kMaxConfigNesting);
  parser.RecordErrorsTo(&errors);
  return parser;
}

[[noreturn]] void unreadable(const std::string& path, const char* why) {
  throw Error(ExitCode::kInputOutput, fmt::format("cannot read the configuration {}: {}", printable(path), why));
}

std::string read_small_file(const std::string& path) {
  // O_NONBLOCK: a pipe without a writer must not hold us.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) unreadable(path, std::strerror(errno));
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) unreadable(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) unreadable(path, "it is not a regular file");
  std::string text;
  std::string chunk(65536, '\0');
  for (;;) {
    const ssize_t count = ::read(descriptor, chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) unreadable(path, std::strerror(errno));
    if (count == 0) return text;
    text.append(chunk, 0, static_cast<size_t>(count));
    if (static_cast<int64_t>(text.size()) > kMaxConfigBytes) {
      throw Error(ExitCode::kUsage, fmt::format("{} is larger than {} bytes, which no configuration is", printable(path), kMaxConfigBytes));
    }
  }
}

}  // namespace

Config parse_config(std::string_view text, const std::string& origin) {
  if (static_cast<int64_t>(text.size()) > kMaxConfigBytes) {
    throw Error(ExitCode::kUsage, fmt::format("{} is larger than {} bytes, which no configuration is", printable(origin), kMaxConfigBytes));
  }
  FirstError errors;
  TextFormat::Parser parser = strict_parser(errors);
  google::protobuf::io::ArrayInputStream input(text.data(), static_cast<int>(text.size()));
  Config config;
  if (!parser.Parse(&input, &config)) throw Error(ExitCode::kUsage, fmt::format("{}{}: {}", printable(origin), errors.position(), errors.sentence()));
  return config;
}

Config load_config(const std::string& path, std::span<const std::string> overrides) {
  Config config = parse_config(read_small_file(path), path);
  apply_overrides(config, overrides);
  settle_routing(config);
  return config;
}

void apply_overrides(Config& config, std::span<const std::string> overrides) {
  std::set<std::string> seen;
  for (const std::string& assignment : overrides) {
    const std::string shown = "--set " + printable(assignment);
    const size_t equals = assignment.find('=');
    if (equals == 0 || equals == std::string::npos) throw Error(ExitCode::kUsage, shown + ": expected field=value, such as train.steps=200");
    const std::string path = assignment.substr(0, equals), value = assignment.substr(equals + 1);
    if (!seen.insert(path).second) throw Error(ExitCode::kUsage, shown + ": the field is set more than once; keep one");
    std::optional<Place> place;
    try {
      place = find_place(config, path);
    } catch (const Error& error) {
      throw Error(error.code(), shown + ": " + printable(error.what()));
    }
    if (place->descriptor->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      place->owner->GetReflection()->SetString(place->owner, place->descriptor, value);
      continue;
    }
    FirstError errors;
    place->owner->GetReflection()->ClearField(place->owner, place->descriptor);
    if (!strict_parser(errors).ParseFieldValueFromString(value, place->descriptor, place->owner)) {
      throw Error(ExitCode::kUsage, fmt::format("{}: {}", shown, errors.sentence()));
    }
  }
}

std::string print_config(const Config& config) {
  Config full = config;
  fill_defaults(full);
  std::string text;
  TextFormat::PrintToString(full, &text);
  return text;
}

}  // namespace switchyard
