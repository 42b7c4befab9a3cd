// Pieces of one operation's workspace: first how large each is, then, when the memory is there, where.
#pragma once

#include <cstdint>

namespace switchyard::cuda {

template <class T>
struct Piece {
  int64_t offset;  // bytes
  T* in(void* memory) const { return reinterpret_cast<T*>(static_cast<char*>(memory) + offset); }
};

class Pieces {
 public:
  template <class T>
  Piece<T> take(int64_t elements) {
    const Piece<T> piece{bytes_};
    bytes_ += (elements * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

}  // namespace switchyard::cuda
