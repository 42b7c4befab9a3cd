// Rules that tie a model's kind to its data and to how it is trained.
#include <fmt/format.h>

#include "src/config/rules.h"
#include "src/config/validate.h"

namespace switchyard {
namespace {

void check_classifier(const Config& config) {
  const Config::Model& model = config.model();
  require(model.classifier().classes() >= 2, config, "model.classifier.classes", "model.kind CLASSIFIER needs the number of labels of its texts, at least 2");
}

void check_decoder(const Config& config) {
  const auto classifier_only = [&](bool given, const char* field) {
    require(!given, config, field, "model.kind DECODER has no classes and sees no padding; leave it out, or set model.kind to CLASSIFIER");
  };
  const Config::Model::Classifier& classifier = config.model().classifier();
  classifier_only(classifier.classes() != 0, "model.classifier.classes");
  classifier_only(classifier.pool_padding(), "model.classifier.pool_padding");
  classifier_only(classifier.see_padding(), "model.classifier.see_padding");
  classifier_only(config.data().pad() != Config::Data::BACK, "data.pad");
  classifier_only(config.data().cut() != Config::Data::BACK, "data.cut");
  require(config.train().epochs() == 0, config, "train.epochs", "a text for model.kind DECODER has no examples to pass over; set train.steps instead");
}

}  // namespace

void check_kind(const Config& config) {
  if (config.model().kind() == Config::Model::CLASSIFIER) {
    check_classifier(config);
  } else {
    check_decoder(config);
  }
  const bool evaluates = config.eval().every() > 0 || config.train().epochs() > 0;
  const char* advice = "nothing is evaluated while training: set eval.every, or train.epochs for a classifier";
  require(evaluates || config.train().patience() == 0, config, "train.patience", advice);
  require(evaluates || !config.checkpoint().keep_best(), config, "checkpoint.keep_best", advice);
}

void validate_classes(const Config& config, int64_t labels) {
  require(labels == config.model().classifier().classes(), config, "model.classifier.classes",
          fmt::format("the texts of data.corpus have {} labels: set it to that", labels));
}

}  // namespace switchyard
