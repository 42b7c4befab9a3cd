#include "src/model/model.h"

#include "src/model/classifier.h"
#include "src/model/decoder.h"

namespace switchyard {

MicroBatchLoss Model::losses(Context& ctx, const Saved& saved) const {
  MicroBatchLoss result;
  ctx.backend.copy_to_host(saved.loss, &result.cross_entropy);
  for_each_moe(saved, [&](int, const MoeLayer::Saved& moe) {
    result.balance += moe.statistics().sums[0];
    result.router_z += moe.statistics().sums[1];
  });
  return result;
}

void Model::visit(const ParameterVisitor& visitor) {
  stack_.visit(visitor);
  visit_head(visitor);
}

std::unique_ptr<Model> make_model(const ModelOptions& options, Communicator& communicator, const Grid& grid) {
  switch (options.kind) {
    case ModelKind::kDecoder: return std::make_unique<Decoder>(options, communicator, grid);
    case ModelKind::kClassifier: return std::make_unique<Classifier>(options, communicator, grid);
  }
  throw InternalError("a kind of model that nothing makes");
}

}  // namespace switchyard
