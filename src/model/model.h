// Model: a stack and a head. Training, evaluation, and whatever looks into MoE layers work on a Model; a Decoder and a
// Classifier are its two kinds, and only what one of them alone can do (generation, probabilities of classes) asks for
// the kind.
//
// A step goes forward, loss_backward, losses, backward; an evaluation goes forward, evaluate.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "src/data/batch.h"
#include "src/layers/gradients.h"
#include "src/model/options.h"
#include "src/model/stack.h"

namespace switchyard {

// What one micro-batch adds to the loss of its step (DESIGN 6): each part is already weighted.
struct MicroBatchLoss {
  double cross_entropy = 0;  // with the z term of the model's softmax
  double balance = 0;        // sum over MoE layers
  double router_z = 0;       // sum over MoE layers
  double total() const { return cross_entropy + balance + router_z; }
};

class Model {
 public:
  // Kept from step to step. Tensors are in ctx.saved.
  struct Saved {
    Stack::Saved stack;
    Tensor loss;  // [1] F64: this micro-batch's part of the step's cross-entropy
  };

  virtual ~Model() = default;
  Model(const Model&) = delete;  // stores know parameters by address
  Model& operator=(const Model&) = delete;

  // -> h [T, D] activation, in ctx.saved. ctx.key names the batch; `counts` are the whole step's. Collective; T = 0 on an
  // empty lane.
  Tensor forward(Context& ctx, const MicroBatch& batch, const Counts& counts, Saved& saved) const { return stack_.forward(ctx, batch, counts, saved.stack); }
  // The head, there and back: cross-entropy over the step's targets, and its gradient dh [T, D] activation, in
  // ctx.scratch. Between forward and backward. Closes the head's parameters.
  virtual Tensor loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const = 0;
  // dh [T, D] activation; it may be used up. Collective. With what loss_backward has closed, dense parameters are closed in
  // the reverse of visit's order, on every rank alike.
  void backward(Context& ctx, const Tensor& dh, const Saved& saved, Gradients& grads) const { stack_.backward(ctx, dh, saved.stack, grads); }
  // After loss_backward. Waits for the device.
  MicroBatchLoss losses(Context& ctx, const Saved& saved) const;

  // For each of batch.targets [n]: loss [n] exact, the negative log-likelihood in nats, 0 without a target; correct [n] I32,
  // 1 where the largest logit (lowest index on a tie) is the target's.
  virtual void evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const = 0;

  void for_each_moe(const Saved& saved, const std::function<void(int, const MoeLayer::Saved&)>& visitor) const { stack_.for_each_moe(saved.stack, visitor); }
  int moe_layers() const { return stack_.moe_layers(); }
  const ModelOptions& options() const { return stack_.options(); }

  void visit(const ParameterVisitor& visitor);
  // What routers remember, from the first MoE layer to the last.
  void visit_routers(const RouterStateVisitor& visitor) { stack_.visit_routers(visitor); }

 protected:
  Model(const std::string& name, const ModelOptions& options, bool tied_head, Communicator& communicator, const Grid& grid)
      : stack_(name, options, tied_head, communicator, grid) {}

  const Stack& stack() const { return stack_; }
  // 1 / N_target of the step; 0 where it has none.
  static double target_weight(const Counts& counts) { return counts.targets == 0 ? 0 : 1 / static_cast<double>(counts.targets); }

 private:
  // Of parameters that the stack does not have, in forward order.
  virtual void visit_head(const ParameterVisitor& visitor) = 0;

  Stack stack_;
};

// The model of options.kind. Parameters have no memory until a store attaches it. The communicator and the grid outlive it.
std::unique_ptr<Model> make_model(const ModelOptions& options, Communicator& communicator, const Grid& grid);

}  // namespace switchyard
