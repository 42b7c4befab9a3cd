// Classifier: a text is one of several classes. Its blocks see the whole text; its head is the mean over the text's rows
// and a small network.
#pragma once

#include "src/layers/pool.h"
#include "src/model/classifier_head.h"
#include "src/model/model.h"

namespace switchyard {

class Classifier : public Model {
 public:
  Classifier(const ModelOptions& options, Communicator& communicator, const Grid& grid);

  // batch.targets is [B], the class of each text.
  Tensor loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const override;
  void evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const override;

  // h [T, D] activation -> [B, classes] F64, in ctx.scratch. Not for training.
  Tensor logits(Context& ctx, const Tensor& h, const MicroBatch& batch) const;

 private:
  Tensor head_forward(Context& ctx, const Tensor& h, const MicroBatch& batch) const;  // [B, classes] activation
  void visit_head(const ParameterVisitor& visitor) override { head_.visit(visitor); }

  PoolLayer pool_;
  ClassifierHead head_;
  double z_loss_;
};

}  // namespace switchyard
