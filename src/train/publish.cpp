// From masters to the forms that layers read.
//
// Where one rank owns all blocks of a parameter (one rank in all, or an expert with one replica) the forms are made from the
// masters in place. Otherwise owners round their blocks once, and the rounded values travel: each bucket's dense values of
// one dtype are gathered as one flat run, those of experts go where their replicas are (replicas.h).
#include "src/train/parameter_store.h"

namespace switchyard {

Dtype ParameterStore::published(const Parameter& parameter) const {
  return parameter.forms.plain_exact || parameter.forms.packed_exact ? options_.precision.exact : options_.precision.weight;
}

void ParameterStore::make_groups() {
  if (grid_.size() == 1) return;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (const Dtype dtype : {options_.precision.weight, options_.precision.exact}) {
      Group group{static_cast<int>(bucket), dtype, std::vector<int64_t>(static_cast<size_t>(grid_.size()), 0), {}, {}};
      // The flat order is the bucket's: parameters by ascending offset, which is descending visiting order.
      int64_t filled = 0;
      for (auto placement = placements_.rbegin(); placement != placements_.rend(); ++placement) {
        if (placement->bucket != static_cast<int>(bucket) || published(*placement->parameter) != dtype) continue;
        placement->group = groups_.size();
        placement->group_offset = filled;
        filled += placement->parameter->shape.elements();
      }
      for (const PlacedBlock& block : blocks_) {
        const Placement& placement = placements_[placement_of_.at(block.parameter)];
        if (placement.bucket != static_cast<int>(bucket) || published(*block.parameter) != dtype) continue;
        const int64_t elements = block.range.rows * block.parameter->columns();
        group.elements_per_rank[static_cast<size_t>(block.owner)] += elements;
        if (block.owned_index >= 0)
          group.own.push_back({static_cast<size_t>(block.owned_index), placement.group_offset + block.range.first_row * block.parameter->columns()});
      }
      group.values = make_buffer(dtype, {filled}, backend_.memory());
      if (filled > 0) groups_.push_back(std::move(group));
      if (options_.precision.weight == options_.precision.exact) break;
    }
  }
  int64_t largest = 0;
  for (const Group& group : groups_) largest = std::max(largest, group.elements_per_rank[static_cast<size_t>(grid_.rank())] * size_of(group.dtype));
  publish_staging_ = Buffer(largest, backend_.memory());
}

void ParameterStore::attach_forms(Placement& placement) {
  Parameter& parameter = *placement.parameter;
  const bool expert = parameter.kind == ParameterKind::kExpert;
  if (expert && !placement.hosted) return;
  const Dtype dtype = published(parameter);
  const Forms& forms = parameter.forms;
  if (forms.plain_weight || forms.plain_exact) {
    if (travels(parameter)) {
      parameter.plain = values_of(placement);
    } else if (dtype == options_.precision.exact) {
      parameter.plain = master_of(placement);
    } else {
      forms_.push_back(make_buffer(dtype, parameter.shape, backend_.memory()));
      parameter.plain = forms_.back().tensor(dtype, parameter.shape);
    }
  }
  const auto attach = [&](PackedMatrix& packed, Side side) {
    packed = PackedMatrix{{}, dtype, parameter.shape[0], parameter.shape[1], side};
    const int64_t bytes = backend_.packed_bytes(dtype, packed.out, packed.in, side);
    forms_.emplace_back(bytes, backend_.memory());
    packed.storage = forms_.back().tensor(Dtype::kI32, {bytes / 4});
  };
  if (forms.packed_forward) attach(parameter.forward, Side::kForward);
  if (forms.packed_backward) attach(parameter.backward, Side::kBackward);
}

// Where one rank owns the whole parameter, its blocks follow one another in the owned run.
Tensor ParameterStore::master_of(const Placement& placement) const {
  const int64_t offset = placement.parameter->kind == ParameterKind::kExpert ? placement.state_offset
                                                                             : bucket_owned_start_[static_cast<size_t>(placement.bucket)] + placement.offset;
  return masters_.slice(offset, placement.parameter->shape);
}

Tensor ParameterStore::values_of(const Placement& placement) const {
  if (placement.parameter->kind == ParameterKind::kExpert) return replicas_.values(*placement.parameter);
  const Group& group = groups_[placement.group];
  const int64_t elements = placement.parameter->shape.elements();
  return group.values.tensor(group.dtype, {group.elements()}).slice_rows(placement.group_offset, elements).reshape(placement.parameter->shape);
}

// Owners' ranges follow one another in rank order in the bucket's flat run, hence in each group's too.
void ParameterStore::gather(const Group& group, Communicator& communicator) {
  const int64_t own = group.elements_per_rank[static_cast<size_t>(grid_.rank())];
  int64_t first = 0;
  for (int rank = 0; rank < grid_.rank(); ++rank) first += group.elements_per_rank[static_cast<size_t>(rank)];
  const Tensor mine = publish_staging_.tensor(group.dtype, {own});
  for (const Group::Own& piece : group.own) {
    const Tensor& master = owned_[piece.owned_index].master;
    backend_.convert(Out(mine.slice_rows(piece.offset - first, master.elements())), master.reshape({master.elements()}));
  }
  communicator.all_gather({"publish", -1}, mine, group.values.tensor(group.dtype, {group.elements()}), group.elements_per_rank);
}

void ParameterStore::publish(Communicator& communicator, Trace& trace) {
  Span span(trace, SpanKind::kPublish, "publish");
  for (const Group& group : groups_) {
    gather(group, communicator);
    span.add_bytes(group.elements_per_rank[static_cast<size_t>(grid_.rank())] * size_of(group.dtype) * (grid_.size() - 1));
  }
  span.add_bytes(replicas_.publish(communicator));
  for (const Placement& placement : placements_) {
    Parameter& parameter = *placement.parameter;
    if (!parameter.hosted()) continue;
    const Tensor values = travels(parameter) ? values_of(placement) : master_of(placement);
    if (parameter.plain.exists() && parameter.plain.data() != values.data()) backend_.convert(Out(parameter.plain), values);
    if (parameter.forward.storage.exists()) backend_.pack(parameter.forward, values);
    if (parameter.backward.storage.exists()) backend_.pack(parameter.backward, values);
  }
}

}  // namespace switchyard
