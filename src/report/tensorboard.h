// TensorBoard event files, scalars only, written by hand: TFRecord frames around protobuf messages of a few fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/report/metrics.h"
#include "src/report/output.h"

namespace switchyard {

// CRC-32C (Castagnoli), and the form in which TFRecord stores it: rotated right by 15, plus 0xa282ead8.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

struct Scalar {
  std::string tag;
  double value = 0;
};

// What lines of metrics.jsonl are called in TensorBoard.
std::vector<Scalar> scalars_of(const StepMetrics& metrics);
std::vector<Scalar> scalars_of(const HeldoutMetrics& metrics);
std::vector<Scalar> scalars_of(const Alarm& alarm);

// One file <run>/events/events.out.tfevents.<time>.<host>.<process>, opened at construction.
class EventWriter {
 public:
  // `step`: where the run starts; TensorBoard forgets what earlier files say about later steps. `wall_time` in seconds
  // since 1970 is part of the name and of the first events. Throws Error(kInputOutput).
  EventWriter(const std::string& run, int64_t step, double wall_time);

  void write(int64_t step, double wall_time, const std::vector<Scalar>& scalars);
  const std::string& path() const { return file_.path(); }

 private:
  void append(std::string_view event);

  AppendedFile file_;
};

}  // namespace switchyard
