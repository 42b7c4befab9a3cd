#include "src/model/classifier_head.h"

#include "src/layers/initializers.h"

namespace switchyard {

ClassifierHead ClassifierHead::make(const std::string& name, int64_t width, const ClassifierOptions& options) {
  ClassifierHead head;
  head.dropout = options.dropout;
  if (options.hidden > 0) head.hidden = LinearLayer::make(name + ".hidden", options.hidden, width, true, scaled_fan_in(1, width));
  const int64_t last = options.hidden > 0 ? options.hidden : width;
  head.classes = LinearLayer::make(name + ".classes", options.classes, last, true, scaled_fan_in(1, last));
  return head;
}

Tensor ClassifierHead::forward(Context& ctx, const Tensor& mean, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "head");
  const Tensor logits = ctx.temporary(ctx.precision.activation, {mean.rows(), classes.weight.rows()});
  dropout_layer().forward(ctx, mean);
  if (!hidden) {
    classes.forward(ctx, mean, saved.classes_in, Out(logits));
    return logits;
  }
  saved.hidden = ctx.temporary(ctx.precision.activation, {mean.rows(), hidden->weight.rows()});
  hidden->forward(ctx, mean, saved.hidden_in, Out(saved.hidden), {.relu = true, .dropout = hidden_dropout(ctx)});
  classes.forward(ctx, saved.hidden, saved.classes_in, Out(logits));
  return logits;
}

Tensor ClassifierHead::backward(Context& ctx, const Tensor& dlogits, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "head.backward");
  const int64_t width = hidden ? hidden->weight.columns() : classes.weight.columns();
  const Tensor dmean = ctx.temporary(ctx.precision.activation, {dlogits.rows(), width});
  if (hidden) {
    const Tensor dhidden = ctx.temporary(ctx.precision.activation, saved.hidden.shape());
    const double scale = 1 / (1 - hidden_dropout(ctx).rate);
    classes.backward(ctx, dlogits, saved.classes_in, grads, Out(dhidden), {.output = saved.hidden, .scale = scale});
    hidden->backward(ctx, dhidden, saved.hidden_in, grads, Out(dmean));
  } else {
    classes.backward(ctx, dlogits, saved.classes_in, grads, Out(dmean));
  }
  return dropout_layer().backward(ctx, dmean);
}

void ClassifierHead::visit(const ParameterVisitor& visitor) {
  if (hidden) hidden->visit(visitor);
  classes.visit(visitor);
}

}  // namespace switchyard
