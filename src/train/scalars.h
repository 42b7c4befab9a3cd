// Scalars of a step: f64 partials that arise on many ranks and are added in one order on all of them.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/model/model.h"
#include "src/train/parameter_store.h"

namespace switchyard {

// What the router of one MoE layer did in one step or evaluation, over all lanes.
struct LayerReport {
  std::vector<int64_t> requested;  // [E] choices that asked the expert, before capacity
  std::vector<int64_t> kept;       // [E]
  int64_t tokens = 0;              // that were routed; padding is not
  int64_t asked = 0;               // choices that asked; tokens where experts choose
  int64_t dropped = 0;             // of those
  double entropy = 0;              // mean over tokens, nats
  double confidence = 0;           // mean over tokens of the probability of the expert that was chosen
  // [kWays] PayloadLoss::relative() over all lanes; NaN for ways that were plain. Empty where the model has no others.
  std::vector<double> payload_error;

  // [E] fraction of all choices that fell on each expert; of those that asked the fraction that was dropped. 0 where there
  // were none.
  std::vector<double> load() const {
    const int64_t all = std::accumulate(requested.begin(), requested.end(), int64_t{0});
    std::vector<double> fractions;
    for (const int64_t count : requested) fractions.push_back(fraction(count, all));
    return fractions;
  }
  double dropped_fraction() const { return fraction(dropped, asked); }

 private:
  static double fraction(int64_t count, int64_t all) { return all == 0 ? 0 : static_cast<double>(count) / static_cast<double>(all); }
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
  size_t layer_width_ = 0;        // partials of a layer: entropy and confidence, then lost and sent of each way where rows are compressed
  std::vector<double> partials_;  // [puts, extra + moe_layers * layer_width]
  std::vector<int64_t> counts_;   // [moe_layers, kCounts + 2 E]: tokens, asked, dropped, then requested and kept of each expert
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
