#include "src/cli/run_data.h"

#include <fmt/format.h>

#include "src/config/build.h"
#include "src/config/validate.h"
#include "src/data/batches.h"
#include "src/data/builtin.h"
#include "src/data/labelled_batches.h"

namespace switchyard {

RunData::RunData(const Config& config) {
  const bool builtin = config.data().corpus() == "builtin";
  if (config.model().kind() == Config::Model::CLASSIFIER) {
    labelled_ = builtin ? open_builtin_labelled_dataset() : open_labelled_dataset(config.data().corpus());
    validate_classes(config, labelled_.labels.classes());
  } else {
    text_ = builtin ? open_builtin_dataset() : open_dataset(config.data().corpus());
  }
  validate_vocabulary(config, tokenizer().vocabulary());
}

void RunData::expect_tokenizer(const std::string& digest, const std::string& run) const {
  const std::string own = tokenizer().digest().hex();
  if (digest.empty() || digest == own) return;
  throw Error(ExitCode::kData, fmt::format("{} was trained with a tokenizer of digest {}, that of data.corpus has {}; name the data that it was trained on, or "
                                           "start a new run",
                                           run, digest, own));
}

std::unique_ptr<BatchSource> RunData::train(const Config& config) const {
  if (!labelled_.train) return std::make_unique<Batches>(*text_.train, batch_options(config));
  return std::make_unique<LabelledBatches>(*labelled_.train, tokenizer().end_of_document(), batch_options(config));
}

std::unique_ptr<EvaluationSource> RunData::heldout(const Config& config, int64_t most_micro_batches) const {
  const int64_t most = most_micro_batches * config.train().sequences();
  if (text_.heldout) return std::make_unique<EvaluationBatches>(*text_.heldout, batch_options(config), most);
  if (!labelled_.heldout || labelled_.heldout->examples() == 0) return nullptr;
  return std::make_unique<LabelledEvaluationBatches>(*labelled_.heldout, tokenizer().end_of_document(), batch_options(config), most);
}

std::vector<int64_t> RunData::epoch_ends(const Config& config) const {
  std::vector<int64_t> ends;
  if (config.train().epochs() == 0) return ends;
  const LabelledBatches batches(*labelled_.train, tokenizer().end_of_document(), batch_options(config));
  for (int64_t epoch = 1; epoch <= config.train().epochs(); ++epoch) ends.push_back(batches.steps(epoch));
  return ends;
}

}  // namespace switchyard
