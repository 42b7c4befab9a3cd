#include "src/train/router_states.h"

namespace switchyard {
namespace {

Tensor words_of(std::vector<int64_t>& counts) { return Tensor(counts.data(), Dtype::kI32, {static_cast<int64_t>(counts.size()), 2}); }

Tensor tensor_of(std::vector<float>& bias) { return Tensor(bias.data(), Dtype::kF32, {static_cast<int64_t>(bias.size())}); }

Tensor flags_of(std::vector<int32_t>& flags) { return Tensor(flags.data(), Dtype::kI32, {static_cast<int64_t>(flags.size())}); }

StateTensor state_tensor(const std::string& name, const Tensor& memory, int rank) {
  StateTensor tensor{name, memory.dtype(), memory.shape(), {}};
  for (const BlockRange& range : blocks_of(memory.shape())) {
    const Tensor part = memory.rank() == 1 ? memory : memory.slice_rows(range.first_row, range.rows);  // a vector is one row
    tensor.blocks.push_back({range.first_row, range.rows, 0, rank == 0 ? part : Tensor()});
  }
  return tensor;
}

}  // namespace

RouterStates::RouterStates(const Visit& visit) {
  visit([this](RouterState& router) { routers_.push_back(&router); });
}

std::vector<PayloadFallback> RouterStates::advance(const std::vector<LayerReport>& layers) {
  check(layers.size() == routers_.size(), "RouterStates: reports of another number of MoE layers");
  std::vector<PayloadFallback> fallbacks;
  for (size_t i = 0; i < routers_.size(); ++i) {
    routers_[i]->advance(layers[i].requested);
    for (const Way way : routers_[i]->fall_back(layers[i].payload_error)) {
      fallbacks.push_back({static_cast<int>(i), way, layers[i].payload_error[static_cast<size_t>(way)], routers_[i]->payload.error_bound});
    }
  }
  return fallbacks;
}

void RouterStates::share(Communicator& communicator) {
  for (size_t i = 0; i < routers_.size(); ++i) {
    const int layer = static_cast<int>(i);
    if (!routers_[i]->bias.empty()) communicator.broadcast({"router bias", layer}, tensor_of(routers_[i]->bias), 0);
    if (!routers_[i]->counts.empty()) communicator.broadcast({"router counts", layer}, words_of(routers_[i]->counts), 0);
    if (!routers_[i]->fallen_back.empty()) communicator.broadcast({"payload fallback", layer}, flags_of(routers_[i]->fallen_back), 0);
  }
}

State RouterStates::state(int rank) const {
  State state;
  for (RouterState* router : routers_) {
    if (!router->bias.empty()) state.push_back(state_tensor(router->name + ".bias", tensor_of(router->bias), rank));
    if (!router->counts.empty()) state.push_back(state_tensor(router->name + ".counts", words_of(router->counts), rank));
    if (!router->fallen_back.empty()) state.push_back(state_tensor(router->name + ".payload_fallback", flags_of(router->fallen_back), rank));
  }
  return state;
}

}  // namespace switchyard
