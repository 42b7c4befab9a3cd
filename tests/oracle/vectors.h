// A safetensors file of test vectors, read whole. For small files made by the scripts beside it.
#pragma once

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>

#include "kernels/tensor.h"

namespace switchyard::test {

class Vectors {
 public:
  explicit Vectors(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    bytes_ = content.str();
    uint64_t header_bytes = 0;
    if (bytes_.size() < sizeof(header_bytes)) throw std::runtime_error(path + " is missing or empty; make it with the script in tests/oracle");
    std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
    header_ = nlohmann::json::parse(bytes_.substr(sizeof(header_bytes), header_bytes));
    data_ = sizeof(header_bytes) + header_bytes;
  }

  nlohmann::json models() const { return nlohmann::json::parse(header_.at("__metadata__").at("models").get<std::string>()); }
  bool contains(const std::string& name) const { return header_.contains(name); }

  // F32 or I32, at most two extents; in this object's memory.
  Tensor operator[](const std::string& name) const {
    const nlohmann::json& entry = header_.at(name);
    const auto begin = entry.at("data_offsets").at(0).get<size_t>(), end = entry.at("data_offsets").at(1).get<size_t>();
    const auto extents = entry.at("shape").get<std::vector<int64_t>>();
    const Shape shape = extents.size() == 2 ? Shape{extents[0], extents[1]} : Shape{extents.at(0)};
    const Tensor tensor(const_cast<char*>(bytes_.data()) + data_ + begin, entry.at("dtype") == "I32" ? Dtype::kI32 : Dtype::kF32, shape);
    if (static_cast<size_t>(tensor.bytes()) != end - begin || data_ + end > bytes_.size())
      throw std::runtime_error(name + " has another size than its shape says");
    return tensor;
  }

 private:
  std::string bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

}  // namespace switchyard::test
