#include "src/train/replicas.h"

#include <algorithm>
#include <tuple>

namespace switchyard {
namespace {

// Of one transfer, so that the table of a window's runs holds them all.
constexpr size_t kMostRuns = 16'384;

}  // namespace

void Replicas::place(const Parameter& parameter, std::vector<int> hosts, Dtype published) {
  Copies copies;
  const int64_t elements = parameter.shape.elements();
  for (int replica = 0; replica < grid_.replicas(); ++replica) {
    const int host = hosts[static_cast<size_t>(replica)];
    if (std::find(copies.ranks.begin(), copies.ranks.end(), host) == copies.ranks.end()) copies.ranks.push_back(host);
    const bool in_place = grid_.size() == 1 && replica == 0;
    const bool kept = here(host) && !in_place && options_.training;
    copies.sums.push_back(kept ? sum_elements_ : -1);
    sum_elements_ += kept ? elements : 0;
  }
  if (grid_.size() > 1 && std::find_if(hosts.begin(), hosts.end(), [this](int host) { return here(host); }) != hosts.end()) {
    int64_t& filled = value_elements_[run_of(published)];
    copies.values = filled;
    filled += elements;
  }
  copies.hosts = std::move(hosts);
  copies.published = published;
  copies_.emplace(&parameter, std::move(copies));
}

void Replicas::allocate() {
  sums_ = make_buffer(options_.precision.exact, {sum_elements_}, backend_.memory());
  values_[0] = make_buffer(options_.precision.weight, {value_elements_[0]}, backend_.memory());
  values_[1] = make_buffer(options_.precision.exact, {value_elements_[1]}, backend_.memory());
}

void Replicas::add_block(const Parameter& parameter, BlockRange range, int owner, const OwnedBlock* own) {
  Block block;
  block.copies = &copies_.at(&parameter);
  block.owner = owner;
  block.layer = parameter.moe_layer;
  block.number = blocks_of_expert_[{parameter.moe_layer, parameter.expert}]++;
  block.first = range.first_row * parameter.columns();
  block.elements = range.rows * parameter.columns();
  if (own != nullptr) {
    block.master = own->master.reshape({block.elements, 1});
    if (options_.training) block.gradient = own->gradient.reshape({block.elements, 1});
  }
  blocks_.push_back(std::move(block));
}

// The same numbers of all experts come together, so that all ranks are busy at the same time.
void Replicas::cut_buckets() {
  std::stable_sort(blocks_.begin(), blocks_.end(), [this](const Block& a, const Block& b) {
    return std::make_tuple(a.layer, run_of(a.copies->published), a.number) < std::make_tuple(b.layer, run_of(b.copies->published), b.number);
  });
  const int64_t limit = options_.bucket_bytes / size_of(options_.precision.exact);
  const size_t ranks = static_cast<size_t>(grid_.size()), most_blocks = std::max<size_t>(1, kMostRuns / static_cast<size_t>(grid_.replicas()));
  std::vector<int64_t> leave(ranks, 0), arrive(ranks, 0);
  std::vector<Block> bucket;
  for (const Block& block : blocks_) {
    // New values leave the owner at most as often as sums reach it.
    const auto add = [&] {
      int64_t most = 0;
      for (const int host : block.copies->hosts) {
        if (host == block.owner) continue;
        most = std::max(most, leave[static_cast<size_t>(host)] += block.elements);
        most = std::max(most, arrive[static_cast<size_t>(block.owner)] += block.elements);
      }
      return most;
    };
    const bool fits = add() <= limit && bucket.size() < most_blocks && (bucket.empty() || bucket.back().copies->published == block.copies->published);
    if (!fits && !bucket.empty()) {
      close_bucket(bucket);
      std::fill(leave.begin(), leave.end(), 0);
      std::fill(arrive.begin(), arrive.end(), 0);
      add();
    }
    bucket.push_back(block);
  }
  if (!bucket.empty()) close_bucket(bucket);
  blocks_ = {};
  int64_t largest = 0;
  for (const Bucket& cut : buckets_) largest = std::max(largest, cut.sums_arrive);
  for (Buffer& inbox : inboxes_) inbox = make_buffer(options_.precision.exact, {options_.training ? largest : 0}, backend_.memory());
}

// Keeps what this rank has to do with, and empties the list.
void Replicas::close_bucket(std::vector<Block>& blocks) {
  Bucket bucket;
  bucket.published = blocks.front().copies->published;
  for (Block& block : blocks) {
    const Copies& copies = *block.copies;
    const bool owned = here(block.owner);
    for (const int host : copies.hosts) {
      if (host == block.owner) continue;
      bucket.sums_leave += here(host) ? block.elements : 0;
      bucket.sums_arrive += owned ? block.elements : 0;
    }
    if (owned) bucket.values_leave += block.elements * (static_cast<int64_t>(copies.ranks.size()) - 1);
    if (owned || std::find_if(copies.ranks.begin(), copies.ranks.end(), [this](int rank) { return here(rank); }) != copies.ranks.end()) {
      bucket.blocks.push_back(std::move(block));
    }
  }
  buckets_.push_back(std::move(bucket));
  blocks.clear();
}

Tensor Replicas::sum(const Parameter& parameter, int replica) const {
  const int64_t first = copies_.at(&parameter).sums[static_cast<size_t>(replica)];
  check(first >= 0, "Replicas::sum: the copy lives on another rank");
  return sums_.tensor(options_.precision.exact, {sum_elements_}).slice_rows(first, parameter.shape.elements()).reshape(parameter.shape);
}

Tensor Replicas::values_run(Dtype published) const {
  const size_t run = run_of(published);
  return values_[run].tensor(published, {value_elements_[run], 1});
}

Tensor Replicas::values(const Parameter& parameter) const {
  const Copies& copies = copies_.at(&parameter);
  check(copies.values >= 0, "Replicas::values: no copy of the expert lives on this rank");
  return values_run(copies.published).slice_rows(copies.values, parameter.shape.elements()).reshape(parameter.shape);
}

Tensor Replicas::sum_of(const Block& block, int replica) const {
  const int64_t first = block.copies->sums[static_cast<size_t>(replica)];
  if (first < 0) return block.gradient;
  return sums_.tensor(options_.precision.exact, {sum_elements_, 1}).slice_rows(first + block.first, block.elements);
}

void Replicas::send_sums(Communicator& communicator, size_t number) {
  const Bucket& bucket = buckets_[number];
  const Dtype exact = options_.precision.exact;
  const Tensor outbox = communicator.outbox(OutboxUse::kBucket, exact, bucket.sums_leave, 1);
  const Tensor inbox = inboxes_[number % 2].tensor(exact, {bucket.sums_arrive, 1});
  send_.clear();
  receive_.clear();
  int64_t packed = 0, arriving = 0;
  for (const Block& block : bucket.blocks) {
    for (int replica = 0; replica < grid_.replicas(); ++replica) {
      const int host = block.copies->hosts[static_cast<size_t>(replica)];
      if (host == block.owner) continue;
      if (here(host)) {
        backend_.convert(Out(outbox.slice_rows(packed, block.elements)), sum_of(block, replica));
        send_.push_back({block.owner, packed, block.elements});
        packed += block.elements;
      }
      if (here(block.owner)) {
        receive_.push_back({host, arriving, block.elements});
        arriving += block.elements;
      }
    }
  }
  events_[number % 2] = communicator.all_to_all({"replica_sum", -1}, outbox, send_, inbox, receive_, Event{});
}

void Replicas::add_terms(Communicator& communicator, size_t number) {
  const Bucket& bucket = buckets_[number];
  if (grid_.size() > 1) communicator.wait(events_[number % 2]);
  const Tensor inbox = inboxes_[number % 2].tensor(options_.precision.exact, {bucket.sums_arrive, 1});
  int64_t arrived = 0;
  for (const Block& block : bucket.blocks) {
    if (!here(block.owner)) continue;
    for (int replica = 0; replica < grid_.replicas(); ++replica) {
      Tensor term;
      if (here(block.copies->hosts[static_cast<size_t>(replica)])) {
        term = sum_of(block, replica);
      } else {
        term = inbox.slice_rows(arrived, block.elements);
        arrived += block.elements;
      }
      if (term.data() != block.gradient.data()) backend_.convert(Target{block.gradient, replica > 0}, term);
    }
  }
}

void Replicas::add_up(Communicator& communicator, Trace& trace) {
  if (buckets_.empty()) return;
  Span span(trace, SpanKind::kGradientSum, "replica_sum");
  for (size_t number = 0; number <= buckets_.size(); ++number) {
    if (number < buckets_.size() && grid_.size() > 1) {
      send_sums(communicator, number);
      span.add_bytes(buckets_[number].sums_leave * size_of(options_.precision.exact));
    }
    if (number > 0) add_terms(communicator, number - 1);
  }
}

void Replicas::send_values(Communicator& communicator, size_t number) {
  const Bucket& bucket = buckets_[number];
  const Tensor outbox = communicator.outbox(OutboxUse::kBucket, bucket.published, bucket.values_leave, 1);
  const Tensor inbox = values_run(bucket.published);
  send_.clear();
  receive_.clear();
  int64_t packed = 0;
  for (const Block& block : bucket.blocks) {
    const int64_t first = block.copies->values + block.first;
    if (!here(block.owner)) {
      receive_.push_back({block.owner, first, block.elements});
      continue;
    }
    const Tensor values = inbox.slice_rows(first, block.elements);
    backend_.convert(Out(values), block.master);
    for (const int rank : block.copies->ranks) {
      if (here(rank)) continue;
      backend_.convert(Out(outbox.slice_rows(packed, block.elements)), values);
      send_.push_back({rank, packed, block.elements});
      packed += block.elements;
    }
  }
  events_[number % 2] = communicator.all_to_all({"publish", -1}, outbox, send_, inbox, receive_, Event{});
}

int64_t Replicas::publish(Communicator& communicator) {
  if (grid_.size() == 1) return 0;
  int64_t bytes = 0;
  for (size_t number = 0; number <= buckets_.size(); ++number) {
    if (number < buckets_.size()) {
      send_values(communicator, number);
      bytes += buckets_[number].values_leave * size_of(buckets_[number].published);
    }
    if (number > 0) communicator.wait(events_[(number - 1) % 2]);
  }
  return bytes;
}

int64_t Replicas::most_bytes(int64_t elements, int64_t block_elements, int replicas, int64_t bucket_bytes, Dtype exact) {
  if (replicas == 1) return 0;
  return std::min(elements * replicas * size_of(exact), std::max(bucket_bytes, block_elements * replicas * size_of(exact)));
}

}  // namespace switchyard
