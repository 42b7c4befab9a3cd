// Descriptors with numbered attributes, as cublasLt has them: a table says where in a structure each lies.
#pragma once

#include <cublas_v2.h>

#include <cstddef>
#include <cstring>
#include <span>

namespace switchyard::emulation {

struct Attribute {
  int number;
  size_t offset;
  size_t bytes;
};

inline const Attribute* find_attribute(std::span<const Attribute> table, int number) {
  for (const Attribute& attribute : table) {
    if (attribute.number == number) return &attribute;
  }
  return nullptr;
}

// CUBLAS_STATUS_INVALID_VALUE for an unknown number, a null buffer, or another size than the attribute has.
inline cublasStatus_t set_attribute(std::span<const Attribute> table, void* structure, int number, const void* value, size_t bytes) {
  const Attribute* attribute = find_attribute(table, number);
  if (attribute == nullptr || value == nullptr || bytes != attribute->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(static_cast<std::byte*>(structure) + attribute->offset, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// With `bytes` 0 it only says in `written` how many there are.
inline cublasStatus_t get_attribute(std::span<const Attribute> table, const void* structure, int number, void* value, size_t bytes, size_t* written) {
  const Attribute* attribute = find_attribute(table, number);
  if (attribute == nullptr || (bytes == 0 && written == nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
  if (written != nullptr) *written = attribute->bytes;
  if (bytes == 0) return CUBLAS_STATUS_SUCCESS;
  if (value == nullptr || bytes != attribute->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, static_cast<const std::byte*>(structure) + attribute->offset, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace switchyard::emulation
