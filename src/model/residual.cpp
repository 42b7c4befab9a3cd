#include "src/model/residual.h"

namespace switchyard {

Tensor Residual::enter(Context& ctx, const Tensor& x, Saved& saved) const { return place == NormPlace::kPre ? norm.forward(ctx, x, saved) : x; }

Tensor Residual::leave(Context& ctx, const Tensor& x, const Tensor& branch, Saved& saved) const {
  const Tensor sum = dropout.add(ctx, x, branch);
  return place == NormPlace::kPre ? sum : norm.forward(ctx, sum, saved);
}

Tensor Residual::leave_backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const {
  if (place == NormPlace::kPre) return dy;
  const Tensor dsum = ctx.temporary(ctx.precision.activation, dy.shape());
  norm.backward(ctx, dy, saved, grads, Out(dsum));
  return dsum;
}

void Residual::enter_backward(Context& ctx, const Tensor& dread, const Tensor& dsum, const Saved& saved, Gradients& grads, const Tensor& dx) const {
  if (place == NormPlace::kPre) {
    norm.backward(ctx, dread, saved, grads, Accumulate(dx));
  } else {
    ctx.backend.add(Out(dx), dsum, dread, {});
  }
}

}  // namespace switchyard
