// The part of JSON Schema that tests/profile/*.schema.json use: type, required, properties, additionalProperties: false
// and items.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace switchyard {

inline bool has_type(const nlohmann::json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  return type == "number" && value.is_number();
}

// What is wrong with `value` at `place`; empty if nothing is.
inline std::string violation(const nlohmann::json& schema, const nlohmann::json& value, const std::string& place) {
  const std::string type = schema.at("type");
  if (!has_type(value, type)) return place + " is no " + type;
  if (schema.contains("items")) {
    for (size_t i = 0; i < value.size(); ++i) {
      if (std::string wrong = violation(schema["items"], value[i], place + "[" + std::to_string(i) + "]"); !wrong.empty()) return wrong;
    }
  }
  const std::string prefix = place.empty() ? "" : place + ".";
  for (const auto& key : schema.value("required", nlohmann::json::array())) {
    if (!value.contains(key)) return prefix + key.get<std::string>() + " is missing";
  }
  if (!schema.contains("properties")) return "";
  for (const auto& [key, member] : value.items()) {
    if (!schema["properties"].contains(key)) return prefix + key + " is unknown";
    if (std::string wrong = violation(schema["properties"][key], member, prefix + key); !wrong.empty()) return wrong;
  }
  return "";
}

// `file`: a schema in tests/profile.
inline std::string schema_violation(const std::string& file, const nlohmann::json& value) {
  std::ifstream text(std::string(SWITCHYARD_SOURCE_DIR) + "/tests/profile/" + file);
  return violation(nlohmann::json::parse(text), value, "");
}

}  // namespace switchyard
