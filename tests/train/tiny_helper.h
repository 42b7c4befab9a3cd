// A small training job for tests: every source of trouble is on (dropout, jitter, capacity that binds, clipping, both
// router losses, padding, experts that do not divide by the ranks), and it takes milliseconds a step.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/data/example_file.h"
#include "src/data/token_file.h"
#include "src/train/evaluate.h"
#include "src/train/trainer.h"
#include "tests/ranks.h"

namespace switchyard {

struct TinyJob {
  Trainer::Options trainer;
  int64_t vocabulary = 61;
  int64_t corpus_tokens = 4000;  // of a language model
  int64_t examples = 100;        // of a classifier
  bool cpu_backend = false;      // else the reference
  Backend* backend = nullptr;    // or this one, of one rank
  int threads = 1;
};

// W = 8 lanes, A = 2, E = 6.
TinyJob tiny_job();

// The same trouble for a classifier of three classes: norms behind sublayers, texts of 0 to 20 words cut to 12 tokens.
TinyJob tiny_classifier_job();

// A token file with a fixed pseudo-random text, made once per process in a temporary folder.
const TokenFile& tiny_tokens(const TinyJob& job);
// Likewise, examples whose class is that of most of their words.
const ExampleFile& tiny_examples(const TinyJob& job);

// One rank of the job.
class TinyRank {
 public:
  TinyRank(const TinyJob& job, Communicator& communicator);

  Trainer& trainer() { return *trainer_; }
  BatchSource& batches() { return *batches_; }
  // The first 40 windows, or the first 50 examples, of what is trained on.
  std::unique_ptr<EvaluationSource> heldout() const;
  // Steps until `steps` are done.
  void train(int64_t steps);
  EvaluationReport evaluate();
  std::string digest();

 private:
  TinyJob job_;
  Communicator& communicator_;
  Grid grid_;
  Trace trace_;
  std::unique_ptr<Backend> own_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<BatchSource> batches_;
};

// Runs `body` on thread ranks whose outboxes fit the job.
void run_tiny(const TinyJob& job, int ranks, const std::function<void(TinyRank&, Communicator&)>& body);

// What a job left behind after `steps` steps from its initialisation, as rank 0 saw it.
struct Trail {
  std::vector<double> losses, norms;  // by step
  std::vector<int64_t> dropped;       // by step and MoE layer
  std::string digest;
  EvaluationReport evaluation;
};
Trail trail_of(const TinyJob& job, int ranks, int64_t steps);

// Every bit of the two; `what` says how they differ in kind ("3 ranks").
void expect_same(const Trail& trail, const Trail& expected, const std::string& what);

}  // namespace switchyard
