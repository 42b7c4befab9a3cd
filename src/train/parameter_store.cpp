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

ParameterStore::ParameterStore(Backend& backend, const Grid& grid, Options options, const Visit& visit)
    : backend_(backend),
      grid_(grid),
      options_(options),
      replicas_(backend, grid, {.precision = options.precision, .training = options.training, .bucket_bytes = options.bucket_bytes}) {
  collect(visit);
  cut_buckets();
  place_experts();
  place_blocks();
  allocate();
  own_blocks();
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

void ParameterStore::place_experts() {
  for (Placement& placement : placements_) {
    const Parameter& parameter = *placement.parameter;
    if (parameter.kind != ParameterKind::kExpert) continue;
    std::vector<int> hosts;
    for (int replica = 0; replica < grid_.replicas(); ++replica) hosts.push_back(host_of(parameter, replica));
    placement.hosted = std::find(hosts.begin(), hosts.end(), grid_.rank()) != hosts.end();
    if (replicated(parameter)) replicas_.place(parameter, std::move(hosts), published(parameter));
  }
  replicas_.allocate();
}

void ParameterStore::allocate() {
  const auto run = [this] { return OwnedRun(options_.precision.exact, owned_elements_, backend_.memory()); };
  masters_ = run();
  if (!options_.training) return;
  sums_ = run();
  for (int i = 0; i < options_.moments; ++i) moments_[static_cast<size_t>(i)] = run();
}

int ParameterStore::host_of(const Parameter& parameter, int replica) const {
  return grid_.owner(parameter.moe_layer, parameter.expert, experts_of_layer_.at(parameter.moe_layer), replica);
}

// The host of that replica which owns least so far.
int ParameterStore::expert_owner(const Parameter& parameter, int64_t elements) {
  const auto owned = [this](int rank) -> int64_t& { return expert_elements_[static_cast<size_t>(rank)]; };
  int owner = host_of(parameter, 0);
  for (int replica = 1; replica < grid_.replicas(); ++replica) {
    const int host = host_of(parameter, replica);
    if (owned(host) < owned(owner)) owner = host;
  }
  owned(owner) += elements;
  return owner;
}

void ParameterStore::place_blocks() {
  owned_per_rank_.assign(static_cast<size_t>(grid_.size()), 0);
  expert_elements_.assign(static_cast<size_t>(grid_.size()), 0);
  for (Placement& placement : placements_) {
    const Parameter& parameter = *placement.parameter;
    for (const BlockRange& range : blocks_of(parameter.shape)) {
      const int64_t first = range.first_row * parameter.columns(), elements = range.rows * parameter.columns();
      const bool dense = parameter.kind == ParameterKind::kDense;
      const BucketLayout* bucket = dense ? &buckets_[static_cast<size_t>(placement.bucket)] : nullptr;
      PlacedBlock block{&parameter, range, dense ? range_owner(*bucket, placement.offset + first) : expert_owner(parameter, elements), -1};
      if (block.owner == grid_.rank()) {
        block.owned_index = static_cast<int64_t>(owned_offsets_.size());
        if (dense) {
          owned_offsets_.push_back(bucket_owned_start_[static_cast<size_t>(placement.bucket)] + placement.offset + first -
                                   bucket->begin[static_cast<size_t>(grid_.rank())]);
        } else {
          if (placement.state_offset < 0) placement.state_offset = owned_elements_;
          owned_offsets_.push_back(owned_elements_);
          owned_elements_ += elements;
        }
      }
      ++owned_per_rank_[static_cast<size_t>(block.owner)];
      blocks_.push_back(block);
    }
  }
}

void ParameterStore::own_blocks() {
  owned_.reserve(owned_offsets_.size());
  for (const PlacedBlock& placed : blocks_) {
    const Parameter& parameter = *placed.parameter;
    if (placed.owned_index >= 0) {
      const int64_t offset = owned_offsets_[static_cast<size_t>(placed.owned_index)];
      const Shape shape{placed.range.rows, parameter.columns()};
      OwnedBlock block;
      block.master = masters_.slice(offset, shape);
      block.decay = parameter.decay;
      if (options_.training) {
        block.gradient = sums_.slice(offset, shape);
        for (int i = 0; i < options_.moments; ++i) block.moments[i] = moments_[static_cast<size_t>(i)].slice(offset, shape);
      }
      owned_.push_back(block);
    }
    if (replicated(parameter)) replicas_.add_block(parameter, placed.range, placed.owner, placed.owned_index >= 0 ? &owned_.back() : nullptr);
  }
  replicas_.cut_buckets();
}

Tensor ParameterStore::bucket_sums(int bucket) const {
  const size_t index = static_cast<size_t>(bucket);
  return sums_.slice(bucket_owned_start_[index], {buckets_[index].range_elements(grid_.rank())});
}

// Of replica 0 where one rank owns all blocks, which then follow one another, it is the owner's.
Tensor ParameterStore::expert_sum(const Parameter& parameter, int replica) const {
  if (travels(parameter) || replica > 0) return replicas_.sum(parameter, replica);
  const Placement& placement = placements_[placement_of_.at(&parameter)];
  check(placement.state_offset >= 0, "ParameterStore::expert_sum: the expert lives on another rank");
  return sums_.slice(placement.state_offset, parameter.shape);
}

bool ParameterStore::hosts(const Parameter& parameter, int replica) const { return host_of(parameter, replica) == grid_.rank(); }

int64_t ParameterStore::bucket_outbox_bytes() const {
  int64_t largest = 0;
  for (const BucketLayout& bucket : buckets_) {
    for (int rank = 0; rank < grid_.size(); ++rank) largest = std::max(largest, bucket.elements() - bucket.range_elements(rank));
  }
  return grid_.size() == 1 ? 0 : largest * size_of(options_.precision.exact);
}

std::vector<StateTensor> ParameterStore::state_of(const std::string& prefix, OwnedRun& run) {
  const Tensor numbers = run.fetch(backend_);
  std::vector<StateTensor> tensors;
  for (const PlacedBlock& placed : blocks_) {
    if (tensors.empty() || tensors.back().name != prefix + placed.parameter->name) {
      tensors.push_back({prefix + placed.parameter->name, options_.precision.exact, placed.parameter->shape, {}});
    }
    Tensor block;
    if (placed.owned_index >= 0) {
      const Shape shape{placed.range.rows, placed.parameter->columns()};
      block = numbers.slice_rows(owned_offsets_[static_cast<size_t>(placed.owned_index)], shape.elements()).reshape(shape);
    }
    tensors.back().blocks.push_back({placed.range.first_row, placed.range.rows, placed.owner, block});
  }
  return tensors;
}

std::vector<StateTensor> ParameterStore::state(const std::vector<std::string>& moments) {
  std::vector<StateTensor> all = state_of("", masters_);
  for (size_t i = 0; i < moments.size(); ++i) {
    const std::vector<StateTensor> more = state_of("optimizer." + moments[i] + ".", moments_[i]);
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

std::vector<StateTensor> ParameterStore::gradient_state() { return state_of("gradient.", sums_); }

void ParameterStore::take_over() {
  masters_.take_over(backend_);
  for (OwnedRun& moment : moments_) moment.take_over(backend_);
}

}  // namespace switchyard
