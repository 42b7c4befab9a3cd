// Prediction: the classes of texts that nobody labelled, and the ways of their tokens through the experts.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/data/labelled_batches.h"
#include "src/train/runtime.h"

namespace switchyard {

// One expert that worked on a token, and what its output was multiplied by.
struct TokenExpert {
  int32_t expert = 0;
  double gate = 0;
};

struct Prediction {
  std::vector<double> probabilities;  // by class
  // Where they were asked for: the tokens of the text that the model saw, and for each MoE layer the experts of each of
  // them, largest gate first. A token without any found no place at an expert. Soft MoE has none: there an expert works on
  // mixtures of all tokens.
  std::vector<int32_t> tokens;
  std::vector<std::vector<std::vector<TokenExpert>>> layers;

  int32_t best() const;  // the likeliest class, the lowest of several
};

class Predictor {
 public:
  // A runtime of a classifier on one rank. `options` are the batches' of its training: options.sequences texts are worked
  // on at a time. The tokenizer and the runtime outlive this object.
  Predictor(Runtime& runtime, const Tokenizer& tokenizer, const BatchOptions& options);

  // Of at most options.sequences texts. What one text gets does not depend on the others where the model drops no token
  // (eval_capacity_factor 0). Throws Error(kData) where a text is not UTF-8.
  std::vector<Prediction> predict(std::span<const std::string> texts, bool explain);

 private:
  void explain(const MicroBatch& batch, std::vector<Prediction>& predictions);

  Runtime& runtime_;
  TextBatch one_, many_;  // a text alone is not padded to a whole micro-batch
};

}  // namespace switchyard
