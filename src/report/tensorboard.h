// TensorBoard event files, scalars only, written by hand: TFRecord frames around protobuf messages of a few fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/report/metrics.h"

namespace switchyard {

// CRC-32C (Castagnoli), and the form in which TFRecord stores it: rotated right by 15, plus 0xa282ead8.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

struct Scalar {
  std::string tag;
  double value = 0;
};

// What a step's metrics are called in TensorBoard.
std::vector<Scalar> scalars_of(const StepMetrics& metrics);

// One file <run>/events/events.out.tfevents.<time>.<host>, opened at construction.
class EventWriter {
 public:
  // `step`: where the run starts; TensorBoard forgets what earlier files say about later steps. `wall_time` in seconds
  // since 1970 is part of the name and of the first events. Throws Error(kInputOutput).
  EventWriter(const std::string& run, int64_t step, double wall_time);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void write(int64_t step, double wall_time, const std::vector<Scalar>& scalars);
  const std::string& path() const { return path_; }

 private:
  void append(std::string_view event);

  std::string path_;
  int file_ = -1;
};

}  // namespace switchyard
