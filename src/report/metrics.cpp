#include "src/report/metrics.h"

#include <nlohmann/json.hpp>

namespace switchyard {

using nlohmann::ordered_json;

std::string to_json(const StepMetrics& metrics) {
  ordered_json layers = ordered_json::array();
  for (const LayerMetrics& layer : metrics.layers) {
    ordered_json object = {{"load", layer.load}, {"dropped", layer.dropped}, {"entropy", layer.entropy}, {"confidence", layer.confidence}};
    for (const auto& [way, error] : layer.payload_error) object["payload_error"][way] = error;
    layers.push_back(object);
  }
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
                             {"layers", layers},
                             {"seconds", metrics.seconds},
                             {"flops", metrics.flops},
                             {"padding_tokens", metrics.padding_tokens},
                             {"skips", metrics.skips},
                             {"compute_seconds", metrics.compute_seconds},
                             {"publish_seconds", metrics.publish_seconds},
                             {"control_seconds", metrics.control_seconds},
                             {"input_seconds", metrics.input_seconds}};
  return line.dump();
}

// The names differ from a step's, so that a script that looks for "loss" finds steps only.
std::string to_json(const HeldoutMetrics& metrics) {
  const ordered_json line = {{"step", metrics.step},
                             {"kind", "heldout"},
                             {"tokens", metrics.tokens},
                             {"seconds", metrics.seconds},
                             {"flops", metrics.flops},
                             {"heldout_loss", metrics.loss},
                             {"heldout_accuracy", metrics.accuracy},
                             {"heldout_bits_per_byte", metrics.bits_per_byte}};
  return line.dump();
}

std::string to_json(const Alarm& alarm) {
  const ordered_json line = {{"step", alarm.step},       {"kind", "alarm"},      {"alarm", alarm.kind},       {"layer", alarm.layer},
                             {"experts", alarm.experts}, {"value", alarm.value}, {"sentence", alarm.sentence}};
  return line.dump();
}

MetricsWriter::MetricsWriter(const std::string& run) : file_(run + "/metrics.jsonl", false) {}

}  // namespace switchyard
