// From text to Config, and back. What is read is trusted in nothing: size, nesting, names and types are checked here,
// values by validate.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "src/config/config.pb.h"

namespace switchyard {

inline constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
inline constexpr int kMaxConfigNesting = 32;

// Reads a text file and applies `overrides`, each "a.b.c=value", in order. Throws Error(kInputOutput) if `path` is no
// readable file, Error(kUsage) with file, line and column for anything that is not a Config: an unknown name (with the
// nearest known one), a field given twice, a wrong type, too much nesting, too many bytes.
Config load_config(const std::string& path, std::span<const std::string> overrides);

// The same from memory; `origin` stands for the file in messages.
Config parse_config(std::string_view text, const std::string& origin);

// Sets one field per override, by the rules of the file: known names, right types, nothing twice. The value of a
// text field stands without quotes. Throws Error(kUsage).
void apply_overrides(Config& config, std::span<const std::string> overrides);

// Every field of the schema, those left at their defaults included, as text that parse_config reads back.
std::string print_config(const Config& config);

}  // namespace switchyard
