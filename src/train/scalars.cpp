#include "src/train/scalars.h"

#include <algorithm>

#include "comm/scalars.h"

namespace switchyard {
namespace {

constexpr size_t kCounts = 3;          // of a layer, before those of its experts
constexpr size_t kRouterPartials = 2;  // of a layer, before those of its payloads

// [kWays] of sums over the step: lost and sent of each way.
std::vector<double> relative_errors(const double* sums) {
  std::vector<double> errors;
  for (size_t way = 0; way < kWays; ++way) errors.push_back(PayloadLoss{sums[2 * way], sums[2 * way + 1]}.relative());
  return errors;
}

}  // namespace

ScalarBoard::ScalarBoard(const Model& model, const Grid& grid)
    : grid_(grid), experts_(static_cast<size_t>(model.options().moe.experts)), moe_layers_(static_cast<size_t>(model.moe_layers())) {
  layer_width_ = kRouterPartials + (model.options().moe.payload.any() ? 2 * kWays : 0);
  counts_.assign(moe_layers_ * (kCounts + 2 * experts_), 0);
}

void ScalarBoard::put(const std::vector<double>& extra, const Model& model, const Model::Saved& saved) {
  partials_.insert(partials_.end(), extra.begin(), extra.end());
  model.for_each_moe(saved, [&](int layer, const MoeLayer::Saved& moe) {
    const RouterStatistics& statistics = moe.statistics();
    partials_.push_back(statistics.sums[2]);
    partials_.push_back(statistics.sums[3]);
    for (size_t way = 0; kRouterPartials + 2 * way < layer_width_; ++way) {
      partials_.push_back(moe.payload.way[way].lost);
      partials_.push_back(moe.payload.way[way].sent);
    }
    int64_t* counts = counts_.data() + static_cast<size_t>(layer) * (kCounts + 2 * experts_);
    counts[0] += statistics.tokens;
    counts[1] += statistics.asked;
    counts[2] += statistics.dropped;
    counts += kCounts;
    for (size_t e = 0; e < experts_; ++e) {
      counts[e] += statistics.requested[e];
      counts[experts_ + e] += statistics.kept[e];
    }
  });
  width_ = extra.size() + layer_width_ * moe_layers_;
}

std::vector<double> ScalarBoard::collect(Communicator& communicator, std::vector<LayerReport>& layers) {
  const size_t own = partials_.size();
  const size_t ranks = static_cast<size_t>(grid_.size());
  all_.resize(ranks * own);
  gather_scalars(communicator, {"scalars", -1}, partials_, std::vector<int64_t>(ranks, static_cast<int64_t>(own)), all_);
  communicator.reduce({"loads", -1}, counts_, Reduction::kSum);

  std::vector<double> sums(width_, 0);
  for (size_t put = 0; put * width_ < own; ++put) {
    const int first_lane = static_cast<int>(put) % grid_.rounds() * grid_.size();
    for (size_t rank = 0; rank < ranks && first_lane + static_cast<int>(rank) < grid_.lanes(); ++rank) {
      for (size_t i = 0; i < width_; ++i) sums[i] += all_[rank * own + put * width_ + i];
    }
  }
  layers.assign(moe_layers_, {});
  for (size_t layer = 0; layer < moe_layers_; ++layer) {
    LayerReport& report = layers[layer];
    const auto counts = counts_.begin() + static_cast<int64_t>(layer * (kCounts + 2 * experts_)), requested = counts + kCounts;
    report.tokens = counts[0];
    report.asked = counts[1];
    report.dropped = counts[2];
    report.requested.assign(requested, requested + static_cast<int64_t>(experts_));
    report.kept.assign(requested + static_cast<int64_t>(experts_), requested + static_cast<int64_t>(2 * experts_));
    const double tokens = static_cast<double>(std::max<int64_t>(1, report.tokens));
    const double* partials = sums.data() + width_ - layer_width_ * (moe_layers_ - layer);
    report.entropy = partials[0] / tokens;
    report.confidence = partials[1] / tokens;
    if (layer_width_ > kRouterPartials) report.payload_error = relative_errors(partials + kRouterPartials);
  }
  sums.resize(width_ - layer_width_ * moe_layers_);
  return sums;
}

BlockScalars::BlockScalars(const ParameterStore& store, const Grid& grid) : store_(store) {
  std::vector<size_t> next(static_cast<size_t>(grid.size()), 0);
  for (size_t rank = 1; rank < next.size(); ++rank) next[rank] = next[rank - 1] + static_cast<size_t>(store.owned_per_rank()[rank - 1]);
  for (const PlacedBlock& block : store.blocks()) order_.push_back(next[static_cast<size_t>(block.owner)]++);
}

double BlockScalars::fold(Communicator& communicator, const std::vector<double>& own) {
  all_.resize(order_.size());
  gather_scalars(communicator, {"block scalars", -1}, own, store_.owned_per_rank(), all_);
  double sum = 0;
  for (size_t index : order_) sum += all_[index];
  return sum;
}

}  // namespace switchyard
