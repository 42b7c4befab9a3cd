// A model on a world of one, with weights, gradients and a batch.
#pragma once

#include <algorithm>

#include "comm/self.h"
#include "src/model/classifier.h"
#include "src/model/decoder.h"
#include "tests/gradcheck.h"

namespace switchyard::test {

// Two blocks, the second with three experts; everything that a model can have is switched on.
inline ModelOptions small_options() {
  ModelOptions options;
  options.vocabulary = 11;
  options.width = 6;
  options.heads = 2;
  options.head_width = 4;
  options.feed_forward = 10;
  options.blocks = 2;
  options.sequence_length = 6;
  options.bias = true;
  options.dropout = 0.2;
  options.hidden_dropout = 0.3;
  options.z_loss = 0.05;
  options.moe.experts = 3;
  options.moe.capacity_factor = 0.75;
  options.moe.min_capacity = 1;
  options.moe.group_tokens = 8;
  options.moe.jitter = 0.1;
  options.moe.balance_loss = 0.5;
  options.moe.z_loss = 0.2;
  options.moe.expert_dropout = 0.25;
  return options;
}

// Sequences of equal length. A negative number is padding: token 0, no target, mask 0. The target of a token is the next
// one of its sequence, where that is a real one.
struct Batch {
  Batch(Bench& bench, const std::vector<std::vector<int32_t>>& sequences, int64_t length, const ModelOptions& options) {
    std::vector<int32_t> tokens, targets, mask;
    for (const std::vector<int32_t>& sequence : sequences) {
      for (size_t i = 0; i < sequence.size(); ++i) {
        const bool real = sequence[i] >= 0, has_target = real && i + 1 < sequence.size() && sequence[i + 1] >= 0;
        tokens.push_back(real ? sequence[i] : 0);
        targets.push_back(has_target ? sequence[i + 1] : -1);
        mask.push_back(real ? 1 : 0);
        counts.targets += has_target ? 1 : 0;
        counts.tokens += real ? 1 : 0;
      }
    }
    const auto rows = static_cast<int64_t>(tokens.size());
    const int64_t group = group_tokens_of(options.moe, rows);
    for (int64_t first = 0; first < rows; first += group) {
      const auto begin = mask.begin() + first, end = mask.begin() + std::min(rows, first + group);
      if (std::count(begin, end, 1) > 0) ++counts.groups;
    }
    batch.tokens = bench.integers(tokens);
    batch.targets = bench.integers(targets);
    batch.mask = bench.integers(mask);
    batch.sequences = static_cast<int64_t>(sequences.size());
    batch.sequence_length = length;
  }

  MicroBatch batch;
  Counts counts;
};

// The same texts for a classifier: a class for each, -1 for one that is no example.
struct LabelledBatch : Batch {
  LabelledBatch(Bench& bench, const std::vector<std::vector<int32_t>>& sequences, const std::vector<int32_t>& labels, int64_t length,
                const ModelOptions& options)
      : Batch(bench, sequences, length, options) {
    batch.targets = bench.integers(labels);
    counts.targets = static_cast<int64_t>(labels.size()) - std::count(labels.begin(), labels.end(), -1);
    if (!options.sees_padding()) return;
    counts.tokens = batch.rows();
    counts.groups = (batch.rows() + group_tokens_of(options.moe, batch.rows()) - 1) / group_tokens_of(options.moe, batch.rows());
  }
};

// Small options for a classifier, all of whose blocks have experts.
inline ModelOptions small_classifier() {
  ModelOptions options = small_options();
  options.kind = ModelKind::kClassifier;
  options.norm_place = NormPlace::kPost;
  options.blocks = 1;
  options.moe.every = 1;
  options.classifier = {.classes = 3, .hidden = 7, .dropout = 0.2};
  return options;
}

template <class Kind>
struct WorldOf {
  explicit WorldOf(const ModelOptions& options, Precision precision = kPrecisionF64, std::unique_ptr<Backend> backend = make_reference_backend(),
                   uint64_t seed = 1)
      : bench(precision, std::move(backend)),
        communicator(make_self_communicator({})),
        grid(0, 1, 1),
        model(options, *communicator, grid),
        store(*bench.backend, precision),
        grads(precision.exact) {
    model.visit(store.visitor());
    store.fill(seed);
  }

  Context& ctx() { return bench.ctx; }

  // h [T, D], copied.
  Tensor forward(const Batch& b) {
    const Arena::Mark saved_mark(bench.saved), scratch_mark(bench.scratch);
    return bench.copy(model.forward(ctx(), b.batch, b.counts, saved));
  }

  // One micro-batch, both ways; gradients into `sink`.
  MicroBatchLoss step(const Batch& b, TestGradients& sink) {
    const Arena::Mark saved_mark(bench.saved), scratch_mark(bench.scratch);
    const Tensor h = model.forward(ctx(), b.batch, b.counts, saved);
    const Tensor dh = model.loss_backward(ctx(), h, b.batch, b.counts, saved, sink);
    model.backward(ctx(), dh, saved, sink);
    return model.losses(ctx(), saved);
  }

  // The loss alone.
  double loss(const Batch& b) {
    const Arena::Mark saved_mark(bench.saved), scratch_mark(bench.scratch);
    TestGradients unused(ctx().precision.exact);
    const Tensor h = model.forward(ctx(), b.batch, b.counts, saved);
    model.loss_backward(ctx(), h, b.batch, b.counts, saved, unused);
    return model.losses(ctx(), saved).total();
  }

  // Of the last forward, over all MoE layers.
  int64_t dropped() {
    int64_t total = 0;
    model.for_each_moe(saved, [&](int, const MoeLayer::Saved& moe) { total += moe.statistics().dropped; });
    return total;
  }

  Bench bench;
  std::unique_ptr<Communicator> communicator;
  Grid grid;
  Kind model;
  TestStore store;
  TestGradients grads;
  Model::Saved saved;
};

using World = WorldOf<Decoder>;
using ClassifierWorld = WorldOf<Classifier>;

}  // namespace switchyard::test
