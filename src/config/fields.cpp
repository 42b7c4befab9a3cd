#include "src/config/fields.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <vector>

#include "src/base/error.h"

namespace switchyard {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Number of insertions, deletions and replacements that turn `a` into `b`.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The path of the first field called `name` anywhere below `message`, or nothing.
std::string path_of(const Descriptor& message, const std::string& name, const std::string& prefix) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& candidate = *message.field(i);
    if (candidate.name() == name) return prefix + name;
    if (candidate.message_type() == nullptr) continue;
    const std::string found = path_of(*candidate.message_type(), name, prefix + candidate.name() + ".");
    if (!found.empty()) return found;
  }
  return {};
}

void visit_below(const Message& message, const std::string& prefix, const std::function<void(const Field&)>& visit) {
  const Descriptor& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (field.message_type() != nullptr) {
      visit_below(message.GetReflection()->GetMessage(message, &field), prefix + field.name() + ".", visit);
    } else {
      visit({prefix + field.name(), &field, &message});
    }
  }
}

void set_default(Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return reflection.SetInt32(&message, &field, field.default_value_int32());
    case FieldDescriptor::CPPTYPE_INT64: return reflection.SetInt64(&message, &field, field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64: return reflection.SetUInt64(&message, &field, field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.SetDouble(&message, &field, field.default_value_double());
    case FieldDescriptor::CPPTYPE_BOOL: return reflection.SetBool(&message, &field, field.default_value_bool());
    case FieldDescriptor::CPPTYPE_ENUM: return reflection.SetEnum(&message, &field, field.default_value_enum());
    case FieldDescriptor::CPPTYPE_STRING: return reflection.SetString(&message, &field, field.default_value_string());
    default: throw InternalError("the schema has a field of a type that nothing handles");
  }
}

void fill_below(Message& message) {
  const Descriptor& descriptor = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (field.message_type() != nullptr) {
      fill_below(*reflection.MutableMessage(&message, &field));
    } else if (!reflection.HasField(message, &field)) {
      set_default(message, field);
    }
  }
}

}  // namespace

bool Field::is_integer() const {
  const auto type = descriptor->cpp_type();
  return type == FieldDescriptor::CPPTYPE_INT32 || type == FieldDescriptor::CPPTYPE_INT64 || type == FieldDescriptor::CPPTYPE_UINT64;
}
bool Field::is_real() const { return descriptor->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE; }
bool Field::is_text() const { return descriptor->cpp_type() == FieldDescriptor::CPPTYPE_STRING; }

double Field::number() const {
  const Reflection& reflection = *owner->GetReflection();
  switch (descriptor->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return reflection.GetInt32(*owner, descriptor);
    case FieldDescriptor::CPPTYPE_INT64: return static_cast<double>(reflection.GetInt64(*owner, descriptor));
    case FieldDescriptor::CPPTYPE_UINT64: return static_cast<double>(reflection.GetUInt64(*owner, descriptor));
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.GetDouble(*owner, descriptor);
    default: throw InternalError("a field that is no number was asked for its number");
  }
}

std::string Field::text() const {
  if (is_text()) return owner->GetReflection()->GetString(*owner, descriptor);
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(*owner, descriptor, -1, &text);
  return text;
}

std::string Field::shown() const { return is_text() ? fmt::format("\"{}\"", text()) : text(); }

void visit_fields(const Config& config, const std::function<void(const Field&)>& visit) { visit_below(config, "", visit); }

Field field(const Config& config, std::string_view path) {
  Field found;
  visit_fields(config, [&](const Field& candidate) {
    if (candidate.path == path) found = candidate;
  });
  check(found.descriptor != nullptr, "a rule names a field that the schema does not have");
  return found;
}

Place find_place(Config& config, const std::string& path) {
  Message* message = &config;
  for (size_t begin = 0;;) {
    const size_t dot = path.find('.', begin);
    const std::string name = path.substr(begin, dot == std::string::npos ? dot : dot - begin);
    const FieldDescriptor* descriptor = message->GetDescriptor()->FindFieldByName(name);
    if (descriptor == nullptr) {
      throw Error(ExitCode::kUsage, "there is no field \"" + path + "\"" + suggestion(*message->GetDescriptor(), name));
    }
    const bool last = dot == std::string::npos;
    if (last && descriptor->message_type() != nullptr) {
      throw Error(ExitCode::kUsage,
                  "\"" + path + "\" is a group of fields; set one of them, such as \"" + path + "." + descriptor->message_type()->field(0)->name() + "\"");
    }
    if (last) return {descriptor, message};
    if (descriptor->message_type() == nullptr) {
      throw Error(ExitCode::kUsage, "there is no field \"" + path + "\", because \"" + path.substr(0, dot) + "\" holds a value and no fields");
    }
    message = message->GetReflection()->MutableMessage(message, descriptor);
    begin = dot + 1;
  }
}

std::string suggestion(const Descriptor& message, const std::string& name) {
  if (name.size() > 64) return {};
  std::string nearest;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (int i = 0; i < message.field_count(); ++i) {
    const size_t distance = edit_distance(name, message.field(i)->name());
    if (distance < least) {
      least = distance;
      nearest = message.field(i)->name();
    }
  }
  const std::string elsewhere = path_of(*Config::descriptor(), name, "");
  if (!elsewhere.empty()) nearest = elsewhere;
  return nearest.empty() ? "" : " (did you mean \"" + nearest + "\"?)";
}

std::string values_of(const EnumDescriptor& values) {
  std::string list;
  for (int i = 0; i < values.value_count(); ++i) {
    if (i > 0) list += i + 1 == values.value_count() ? " or " : ", ";
    list += values.value(i)->name();
  }
  return list;
}

void fill_defaults(Config& config) { fill_below(config); }

}  // namespace switchyard
