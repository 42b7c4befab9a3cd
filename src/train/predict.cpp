#include "src/train/predict.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

BatchOptions of_one_text(BatchOptions options) {
  options.sequences = 1;
  options.group_tokens = 0;
  return options;
}

std::vector<double> softmax(const double* logits, size_t classes) {
  std::vector<double> probabilities(logits, logits + classes);
  const double largest = *std::max_element(probabilities.begin(), probabilities.end());
  double sum = 0;
  for (double& value : probabilities) sum += value = std::exp(value - largest);
  for (double& value : probabilities) value /= sum;
  return probabilities;
}

// The experts of each row of a micro-batch in one MoE layer.
std::vector<std::vector<TokenExpert>> experts_of_rows(Backend& backend, const Route& route, int64_t rows) {
  const auto k = static_cast<size_t>(route.choices);
  const size_t choices = static_cast<size_t>(rows) * k;
  std::vector<int32_t> expert(choices), position(choices);
  std::vector<double> gate(choices);
  backend.copy_to_host(route.expert, expert.data());
  backend.copy_to_host(route.position, position.data());
  if (route.gate.dtype() == Dtype::kF64) {
    backend.copy_to_host(route.gate, gate.data());
  } else {
    std::vector<float> narrow(choices);
    backend.copy_to_host(route.gate, narrow.data());
    gate.assign(narrow.begin(), narrow.end());
  }
  std::vector<std::vector<TokenExpert>> result(static_cast<size_t>(rows));
  for (size_t i = 0; i < choices; ++i) {
    if (position[i] >= 0) result[i / k].push_back({expert[i], gate[i]});
  }
  for (std::vector<TokenExpert>& experts : result) {
    std::stable_sort(experts.begin(), experts.end(), [](const TokenExpert& a, const TokenExpert& b) { return a.gate > b.gate; });
  }
  return result;
}

}  // namespace

int32_t Prediction::best() const { return static_cast<int32_t>(std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin()); }

Predictor::Predictor(Runtime& runtime, const Tokenizer& tokenizer, const BatchOptions& options)
    : runtime_(runtime), one_(tokenizer, of_one_text(options)), many_(tokenizer, options) {
  check(runtime.parts().grid.size() == 1, "Predictor: several ranks");
}

std::vector<Prediction> Predictor::predict(std::span<const std::string> texts, bool explain) {
  if (texts.empty()) return {};
  TextBatch& source = texts.size() == 1 ? one_ : many_;
  const Arena::Mark saved(runtime_.saved()), scratch(runtime_.scratch());
  const MicroBatch batch = runtime_.bring(source.of(texts));
  Context ctx = runtime_.context(batch, 0, 0, false);
  const Classifier& classifier = runtime_.classifier();
  const Tensor h = classifier.forward(ctx, batch, source.counts(), runtime_.state());
  const Tensor logits = classifier.logits(ctx, h, batch);
  std::vector<double> rows(static_cast<size_t>(logits.elements()));
  ctx.backend.copy_to_host(logits, rows.data());
  std::vector<Prediction> predictions(texts.size());
  const auto classes = static_cast<size_t>(logits.columns());
  for (size_t b = 0; b < texts.size(); ++b) predictions[b].probabilities = softmax(rows.data() + b * classes, classes);
  if (explain) this->explain(batch, predictions);
  return predictions;
}

void Predictor::explain(const MicroBatch& batch, std::vector<Prediction>& predictions) {
  Backend& backend = runtime_.parts().backend;
  const auto rows = static_cast<size_t>(batch.rows()), length = static_cast<size_t>(batch.sequence_length);
  std::vector<int32_t> tokens(rows), mask(rows, 1);
  backend.copy_to_host(batch.tokens, tokens.data());
  if (batch.mask.exists()) backend.copy_to_host(batch.mask, mask.data());
  for (size_t b = 0; b < predictions.size(); ++b) {
    for (size_t row = b * length; row < (b + 1) * length; ++row) {
      if (mask[row] != 0) predictions[b].tokens.push_back(tokens[row]);
    }
  }
  const bool soft = runtime_.model().options().moe.router == RouterKind::kSoft;
  runtime_.model().for_each_moe(runtime_.state(), [&](int, const MoeLayer::Saved& moe) {
    const auto experts = soft ? std::vector<std::vector<TokenExpert>>(rows) : experts_of_rows(backend, moe.route(), batch.rows());
    for (size_t b = 0; b < predictions.size(); ++b) {
      std::vector<std::vector<TokenExpert>>& layer = predictions[b].layers.emplace_back();
      for (size_t row = b * length; row < (b + 1) * length; ++row) {
        if (mask[row] != 0) layer.push_back(experts[row]);
      }
    }
  });
}

}  // namespace switchyard
