// OwnedRun: numbers of the blocks that a rank owns, one block after another, where the backend computes with them; and on
// the host, for what reads and writes files. With a backend of the host the two are the same memory.
#pragma once

#include "kernels/backend.h"
#include "kernels/memory.h"

namespace switchyard {

class OwnedRun {
 public:
  OwnedRun() = default;
  OwnedRun(Dtype dtype, int64_t elements, Memory& memory) : dtype_(dtype), elements_(elements), numbers_(make_buffer(dtype, {elements}, memory)) {}

  // [elements] where the backend computes.
  Tensor whole() const { return numbers_.tensor(dtype_, {elements_}); }
  // The elements from `offset` on, in this shape.
  Tensor slice(int64_t offset, const Shape& shape) const { return whole().slice_rows(offset, shape.elements()).reshape(shape); }

  // [elements] on the host, with the numbers as they are now. The same memory at every call.
  Tensor fetch(Backend& backend) {
    if (whole().device() == Device::kHost || elements_ == 0) return whole();
    if (copy_.bytes() == 0) copy_ = make_buffer(dtype_, {elements_});
    backend.copy_to_host(whole(), copy_.data());
    return copy_.tensor(dtype_, {elements_});
  }
  // What was written into fetch()'s memory becomes the numbers. Nothing changes where fetch() was never called.
  void take_over(Backend& backend) {
    if (copy_.bytes() > 0) backend.copy_from_host(copy_.data(), Out(whole()));
  }

 private:
  Dtype dtype_ = Dtype::kF32;
  int64_t elements_ = 0;
  Buffer numbers_;
  Buffer copy_;  // empty on a host
};

}  // namespace switchyard
