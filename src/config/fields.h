// Walking a Config by name: what loading, validation and resuming share. Paths are as in a file, "model.moe.experts".
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "src/config/config.pb.h"

namespace switchyard {

// One field that holds a value, and the message that it is part of.
struct Field {
  std::string path;
  const google::protobuf::FieldDescriptor* descriptor = nullptr;
  const google::protobuf::Message* owner = nullptr;

  bool is_integer() const;
  bool is_real() const;
  bool is_text() const;
  // The value, default included. The first two only for numbers.
  double number() const;
  std::string text() const;   // as in a file; text without quotes
  std::string shown() const;  // as in a sentence; text with quotes
};

// Every field of the schema that holds a value, in the order of the schema, groups entered.
void visit_fields(const Config& config, const std::function<void(const Field&)>& visit);
// Throws InternalError if there is no such field.
Field field(const Config& config, std::string_view path);

// A field of a Config that may be changed.
struct Place {
  const google::protobuf::FieldDescriptor* descriptor = nullptr;
  google::protobuf::Message* owner = nullptr;
};
// Throws Error(kUsage) naming `path` and, for an unknown name, the nearest known one. Groups on the way are created.
Place find_place(Config& config, const std::string& path);

// " (did you mean ...?)" for a name that `message` does not have: its nearest field, or a field of that name elsewhere
// in the schema; empty where nothing is near.
std::string suggestion(const google::protobuf::Descriptor& message, const std::string& name);
// "A, B or C": the values of an enumeration.
std::string values_of(const google::protobuf::EnumDescriptor& values);

// Makes every default explicit.
void fill_defaults(Config& config);

}  // namespace switchyard
