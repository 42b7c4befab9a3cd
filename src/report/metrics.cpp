#include "src/report/metrics.h"

#include <nlohmann/json.hpp>

namespace switchyard {

std::string to_json(const StepMetrics& metrics) {
  using nlohmann::ordered_json;
  ordered_json layers = ordered_json::array();
  for (const LayerMetrics& layer : metrics.layers) layers.push_back({{"load", layer.load}, {"dropped", layer.dropped}, {"entropy", layer.entropy}});
  const ordered_json line = {{"step", metrics.step},
                             {"loss", metrics.loss},
                             {"tokens", metrics.tokens},
                             {"tokens_per_second", metrics.tokens_per_second},
                             {"step_seconds", metrics.step_seconds},
                             {"gradient_norm", metrics.gradient_norm},
                             {"learning_rate", metrics.learning_rate},
                             {"balance_loss", metrics.balance_loss},
                             {"z_loss", metrics.z_loss},
                             {"dropped_fraction", metrics.dropped_fraction},
                             {"all_to_all_seconds", metrics.all_to_all_seconds},
                             {"gradient_sum_seconds", metrics.gradient_sum_seconds},
                             {"layers", layers}};
  return line.dump();
}

MetricsWriter::MetricsWriter(const std::string& run) : file_(run + "/metrics.jsonl", false) {}

void MetricsWriter::write(const StepMetrics& metrics) { file_.append(to_json(metrics) + '\n'); }

}  // namespace switchyard
