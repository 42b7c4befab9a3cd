// Journey: the operands of one operation, there and back.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace switchyard {

class Journey {
 public:
  // `operands` may hold "none" and the same tensor twice. Their bytes are at the backend when the constructor returns.
  Journey(Backend& backend, const std::vector<Tensor>& operands);

  // The operand as the backend sees it; "none" stays none.
  Tensor operator()(const Tensor& operand) const;
  Target operator()(const Target& operand) const { return {(*this)(operand.tensor), operand.add}; }
  Out operator()(const Out& operand) const { return Out((*this)(operand.tensor)); }

  // Brings back every byte in which an operand lies.
  void home() const;

 private:
  // Bytes of the host that belong together, because operands overlap there.
  struct Region {
    char* begin = nullptr;
    char* end = nullptr;
    Buffer there;

    // As far past a multiple of 64 as on the host.
    char* copy() const { return static_cast<char*>(there.data()) + reinterpret_cast<uintptr_t>(begin) % 64; }
    Tensor bytes(const Memory& memory) const;
  };

  Backend& backend_;
  std::vector<Region> regions_;
};

}  // namespace switchyard
