// Scalars of a step: f64 partials that arise on many ranks and are added in one order on all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/model/model.h"
#include "src/train/parameter_store.h"

namespace switchyard {

// What the router of one MoE layer did in one step or evaluation, over all lanes.
struct LayerReport {
  std::vector<int64_t> requested;  // [E] tokens that chose the expert, before capacity
  std::vector<int64_t> kept;       // [E]
  int64_t tokens = 0;              // that were routed; padding is not
  int64_t dropped = 0;
  double entropy = 0;  // mean over tokens, nats

  // [E] fraction of the routed tokens that chose each expert; of all that were dropped. 0 where none was routed.
  std::vector<double> load() const {
    std::vector<double> fractions;
    for (const int64_t count : requested) fractions.push_back(fraction(count));
    return fractions;
  }
  double dropped_fraction() const { return fraction(dropped); }

 private:
  double fraction(int64_t count) const { return tokens == 0 ? 0 : static_cast<double>(count) / static_cast<double>(tokens); }
};

// One vector of partials per (accumulation, lane), added accumulations outside, lanes inside.
class ScalarBoard {
 public:
  ScalarBoard(const Model& model, const Grid& grid);

  void begin() { partials_.clear(), counts_.assign(counts_.size(), 0); }
  // The micro-batch that has just been worked on; `extra` come first in its vector. Every rank puts as often, in the same
  // order: rounds of lanes inside.
  void put(const std::vector<double>& extra, const Model& model, const Model::Saved& saved);
  // Sums of `extra`, over all lanes. Collective. Lanes from grid.lanes() on count nothing.
  std::vector<double> collect(Communicator& communicator, std::vector<LayerReport>& layers);

 private:
  const Grid& grid_;
  size_t experts_ = 0, moe_layers_ = 0, width_ = 0;
  std::vector<double> partials_;  // [puts, extra + moe_layers]
  std::vector<int64_t> counts_;   // [moe_layers, 2 E]
  std::vector<double> all_;
};

// One scalar per owned block, folded in the global order of blocks.
class BlockScalars {
 public:
  explicit BlockScalars(const ParameterStore& store, const Grid& grid);
  // own [owned blocks] F64 on the host -> sum over all blocks, the same bits on every rank. Collective.
  double fold(Communicator& communicator, const std::vector<double>& own);

 private:
  const ParameterStore& store_;
  std::vector<double> all_;
  std::vector<size_t> order_;  // of the global order, in all_
};

}  // namespace switchyard
