// What travels while a step computes: chunks of rows, which change no bit, and buckets of gradients, which nobody waits for
// before there is something else to do.
#include <gtest/gtest.h>

#include <map>

#include "src/data/batches.h"
#include "src/moe/capacity.h"
#include "src/train/gradient_sink.h"
#include "tests/train/tiny_helper.h"

namespace switchyard {
namespace {

TEST(Overlap, AStepHasTheSameBitsInAnyNumberOfChunks) {
  for (const bool shared : {false, true}) {
    TinyJob job = tiny_job();
    if (shared) {
      job.trainer.model.moe.shared_experts = 2;
      job.trainer.model.moe.top_k = 2;
    }
    const Trail whole = trail_of(job, 1, 2);
    for (const int chunks : {2, 4}) {
      job.trainer.model.moe.overlap_chunks = chunks;
      for (const int ranks : {1, 2, 3, 4}) {
        expect_same(trail_of(job, ranks, 2), whole, std::to_string(chunks) + " chunks on " + std::to_string(ranks) + " ranks");
      }
    }
  }
}

TEST(Overlap, AStepInBlocksOfFixedSizeHasTheSameBitsOnAnyNumberOfRanks) {
  TinyJob job = tiny_job();
  job.trainer.model.moe.fixed_block = fixed_block(job.trainer.model.moe, job.trainer.train.sequences * job.trainer.train.sequence_length);
  const Trail whole = trail_of(job, 1, 2);
  for (const int chunks : {1, 2}) {
    job.trainer.model.moe.overlap_chunks = chunks;
    for (const int ranks : {1, 2, 3, 4}) expect_same(trail_of(job, ranks, 2), whole, std::to_string(chunks) + " chunks on " + std::to_string(ranks) + " ranks");
  }
}

// Notes the transfers that pass through it, and when somebody waits for a bucket.
class Witness final : public Communicator {
 public:
  explicit Witness(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<Communicator> split(int color, int key) override { return inner_.split(color, key); }
  void barrier(Call call) override { inner_.barrier(call); }
  void broadcast(Call call, Tensor tensor, int root) override { inner_.broadcast(call, tensor, root); }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override { inner_.all_gather(call, mine, all, rows); }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override { inner_.reduce(call, values, reduction); }
  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override { return inner_.outbox(use, dtype, rows, columns); }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override {
    const Event event = inner_.all_to_all(call, outbox, send, inbox, receive, after);
    if (std::string(call.name) == "gradient_sum") {
      bucket_[event.ticket] = sent_;
      log.push_back("bucket " + std::to_string(sent_++) + " leaves");
    } else {
      log.push_back(std::string(call.name) + " of layer " + std::to_string(call.layer));
    }
    return event;
  }
  void wait(Event event) override {
    if (bucket_.contains(event.ticket)) log.push_back("bucket " + std::to_string(bucket_.at(event.ticket)) + " is needed");
    bucket_.erase(event.ticket);
    inner_.wait(event);
  }
  [[noreturn]] void abort(ExitCode code) override {
    inner_.abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return inner_.bytes_sent(); }

  std::vector<std::string> log;

 private:
  Communicator& inner_;
  std::map<uint64_t, int> bucket_;  // by ticket
  int sent_ = 0;
};

// The transfers of one micro-batch's backward on rank 0, with buckets of a few parameters.
std::vector<std::string> backward_of(const TinyJob& job) {
  std::vector<std::string> log;
  run_ranks(2, [&](Communicator& communicator) {
    Witness witness(communicator);
    const Grid grid(communicator.rank(), 2, 2);
    const auto backend = make_reference_backend();
    Trace trace;
    const Precision precision = kPrecisionF32;
    const auto model = make_model(job.trainer.model, witness, grid);
    ParameterStore store(*backend, grid, {.precision = precision, .bucket_bytes = 4096}, [&](const ParameterVisitor& visitor) { model->visit(visitor); });
    store.initialise(1, 1);
    store.publish(witness, trace);
    GradientSink sink(*backend, witness, grid, trace, store, 1, precision.exact);
    Batches batches(tiny_tokens(job), {2, 1, job.trainer.train.sequences, job.trainer.train.sequence_length, 0, 1});
    const MicroBatch batch = batches.at(0, 0, communicator.rank());
    const Counts counts = batches.counts(0);
    Arena saved("saved"), scratch("scratch");
    Context ctx{*backend, saved, scratch, precision, trace, Key{.lane = communicator.rank(), .first_token = batch.first_token}};
    Model::Saved state;
    sink.begin(0, communicator.rank());
    const Tensor h = model->forward(ctx, batch, counts, state);
    witness.log.clear();
    model->backward(ctx, model->loss_backward(ctx, h, batch, counts, state, sink), state, sink);
    witness.log.emplace_back("backward is over");
    sink.end();
    if (communicator.rank() == 0) log = witness.log;
  });
  return log;
}

TEST(Overlap, ABucketOfGradientsIsNeededOnlyWhenTheNextTwoAreFullOrBackwardIsOver) {
  TinyJob job = tiny_job();
  job.trainer.model.blocks = 4;
  job.trainer.model.moe.every = 1;
  const std::vector<std::string> log = backward_of(job);
  const auto place = [&](const std::string& what) { return std::find(log.begin(), log.end(), what) - log.begin(); };
  const auto bucket = [](int b, const char* what) { return "bucket " + std::to_string(b) + what; };
  std::string text;
  for (const std::string& line : log) text += line + "\n";
  int buckets = 0;
  while (place(bucket(buckets, " leaves")) < static_cast<std::ptrdiff_t>(log.size())) ++buckets;
  ASSERT_GE(buckets, 5) << text;
  EXPECT_LT(place(bucket(buckets - 2, " leaves")), place("backward is over")) << text;
  for (int b = 0; b < buckets; ++b) {
    const auto needed = place(bucket(b, " is needed"));
    ASSERT_LT(needed, static_cast<std::ptrdiff_t>(log.size())) << "bucket " << b << "\n" << text;
    EXPECT_GT(needed, b + 2 < buckets ? place(bucket(b + 1, " leaves")) : place("backward is over")) << "bucket " << b << "\n" << text;
  }
  // Between the two the layers above work: at least one whole exchange of theirs for most buckets.
  int hidden = 0;
  for (int b = 0; b < buckets; ++b) {
    const auto first = log.begin() + place(bucket(b, " leaves")), last = log.begin() + place(bucket(b, " is needed"));
    hidden += std::any_of(first, last, [](const std::string& line) { return line.starts_with("dispatch backward"); });
  }
  EXPECT_GE(hidden, 3) << text;
}

}  // namespace
}  // namespace switchyard
