#include "src/train/parameter_store.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

int64_t elements_of(const Parameter& parameter) { return parameter.shape.elements(); }

// The rank whose range of the bucket holds element `position`.
int range_owner(const BucketLayout& bucket, int64_t position) {
  const auto after = std::upper_bound(bucket.begin.begin(), bucket.begin.end() - 1, position);
  return static_cast<int>(after - bucket.begin.begin()) - 1;
}

}  // namespace

ParameterStore::ParameterStore(Backend& backend, const Grid& grid, Options options, const Visit& visit) : backend_(backend), grid_(grid), options_(options) {
  collect(visit);
  cut_buckets();
  allocate();
  place_blocks();
  make_groups();
  for (Placement& placement : placements_) attach_forms(placement);
}

void ParameterStore::collect(const Visit& visit) {
  visit([this](Parameter& parameter) {
    placement_of_[&parameter] = placements_.size();
    placements_.push_back({&parameter});
    total_elements_ += elements_of(parameter);
    if (parameter.kind == ParameterKind::kExpert) {
      int& experts = experts_of_layer_[parameter.moe_layer];
      experts = std::max(experts, parameter.expert + 1);
    }
  });
}

// Backward closes parameters in about the reverse of visiting order, so that is the order of the flat run.
void ParameterStore::cut_buckets() {
  const int64_t limit = options_.bucket_bytes / size_of(options_.precision.exact);
  std::vector<std::vector<int64_t>> blocks_of_bucket;
  int64_t filled = 0;
  bucket_start_ = {0};
  for (auto placement = placements_.rbegin(); placement != placements_.rend(); ++placement) {
    if (placement->parameter->kind != ParameterKind::kDense) continue;
    const int64_t elements = elements_of(*placement->parameter);
    if (blocks_of_bucket.empty() || (filled > 0 && filled + elements > limit)) {
      blocks_of_bucket.emplace_back();
      bucket_start_.push_back(bucket_start_.back());
      filled = 0;
    }
    placement->bucket = static_cast<int>(blocks_of_bucket.size()) - 1;
    placement->offset = filled;
    places_[placement->parameter] = {placement->bucket, placement->offset};
    for (const BlockRange& range : blocks_of(placement->parameter->shape)) blocks_of_bucket.back().push_back(range.rows * placement->parameter->columns());
    filled += elements;
    bucket_start_.back() += elements;
  }
  for (const std::vector<int64_t>& blocks : blocks_of_bucket) {
    buckets_.push_back(divide_bucket(blocks, grid_.size()));
    bucket_owned_start_.push_back(owned_elements_);
    owned_elements_ += buckets_.back().range_elements(grid_.rank());
  }
}

void ParameterStore::allocate() {
  for (Placement& placement : placements_) {
    const Parameter& parameter = *placement.parameter;
    if (parameter.kind != ParameterKind::kExpert) continue;
    placement.owner = grid_.owner(parameter.moe_layer, parameter.expert, experts_of_layer_.at(parameter.moe_layer));
    if (placement.owner != grid_.rank()) continue;
    placement.state_offset = owned_elements_;
    owned_elements_ += elements_of(parameter);
  }
  const Dtype exact = options_.precision.exact;
  masters_ = make_buffer(exact, {owned_elements_});
  if (!options_.training) return;
  sums_ = make_buffer(exact, {owned_elements_});
  for (int i = 0; i < options_.moments; ++i) moments_[static_cast<size_t>(i)] = make_buffer(exact, {owned_elements_});
}

void ParameterStore::place_blocks() {
  owned_per_rank_.assign(static_cast<size_t>(grid_.size()), 0);
  for (const Placement& placement : placements_) {
    const Parameter& parameter = *placement.parameter;
    for (const BlockRange& range : blocks_of(parameter.shape)) {
      const int64_t first = range.first_row * parameter.columns();
      PlacedBlock block{&parameter, range, placement.owner, -1};
      int64_t offset = placement.state_offset + first;
      if (parameter.kind == ParameterKind::kDense) {
        const BucketLayout& bucket = buckets_[static_cast<size_t>(placement.bucket)];
        block.owner = range_owner(bucket, placement.offset + first);
        offset = bucket_owned_start_[static_cast<size_t>(placement.bucket)] + placement.offset + first - bucket.begin[static_cast<size_t>(grid_.rank())];
      }
      if (block.owner == grid_.rank()) {
        block.owned_index = static_cast<int64_t>(owned_.size());
        own(placement, range, offset);
      }
      ++owned_per_rank_[static_cast<size_t>(block.owner)];
      blocks_.push_back(block);
    }
  }
}

void ParameterStore::own(const Placement& placement, BlockRange range, int64_t offset) {
  const Shape shape{range.rows, placement.parameter->columns()};
  OwnedBlock block;
  block.master = owned_slice(masters_, offset, shape);
  block.decay = placement.parameter->decay;
  if (options_.training) {
    block.gradient = owned_slice(sums_, offset, shape);
    for (int i = 0; i < options_.moments; ++i) block.moments[i] = owned_slice(moments_[static_cast<size_t>(i)], offset, shape);
  }
  owned_.push_back(block);
}

Tensor ParameterStore::owned_slice(const Buffer& buffer, int64_t offset, Shape shape) const {
  return buffer.tensor(options_.precision.exact, {owned_elements_}).slice_rows(offset, shape.elements()).reshape(shape);
}

Tensor ParameterStore::bucket_sums(int bucket) const {
  const size_t index = static_cast<size_t>(bucket);
  return owned_slice(sums_, bucket_owned_start_[index], {buckets_[index].range_elements(grid_.rank())});
}

Tensor ParameterStore::expert_sum(const Parameter& parameter) const {
  const Placement& placement = placements_[placement_of_.at(&parameter)];
  check(placement.state_offset >= 0, "ParameterStore::expert_sum: the expert lives on another rank");
  return owned_slice(sums_, placement.state_offset, parameter.shape);
}

int64_t ParameterStore::bucket_outbox_bytes() const {
  int64_t largest = 0;
  for (const BucketLayout& bucket : buckets_) {
    for (int rank = 0; rank < grid_.size(); ++rank) largest = std::max(largest, bucket.elements() - bucket.range_elements(rank));
  }
  return grid_.size() == 1 ? 0 : largest * size_of(options_.precision.exact);
}

std::vector<StateTensor> ParameterStore::state_of(const std::string& prefix, const std::function<Tensor(const OwnedBlock&)>& part) const {
  std::vector<StateTensor> tensors;
  for (const PlacedBlock& placed : blocks_) {
    if (tensors.empty() || tensors.back().name != prefix + placed.parameter->name) {
      tensors.push_back({prefix + placed.parameter->name, options_.precision.exact, placed.parameter->shape, {}});
    }
    const bool mine = placed.owned_index >= 0;
    tensors.back().blocks.push_back(
        {placed.range.first_row, placed.range.rows, placed.owner, mine ? part(owned_[static_cast<size_t>(placed.owned_index)]) : Tensor{}});
  }
  return tensors;
}

std::vector<StateTensor> ParameterStore::state(const std::vector<std::string>& moments) const {
  std::vector<StateTensor> all = state_of("", [](const OwnedBlock& block) { return block.master; });
  for (size_t i = 0; i < moments.size(); ++i) {
    const std::vector<StateTensor> more = state_of("optimizer." + moments[i] + ".", [i](const OwnedBlock& block) { return block.moments[i]; });
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

std::vector<StateTensor> ParameterStore::gradient_state() const {
  return state_of("gradient.", [](const OwnedBlock& block) { return block.gradient; });
}

}  // namespace switchyard
