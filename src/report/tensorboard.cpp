#include "src/report/tensorboard.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "src/base/error.h"

namespace switchyard {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1u) != 0 ? 0x82f63b78u : 0u);
    table[byte] = value;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = crc_table();

// Protobuf's wire format. Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
template <class T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}
std::string field(int number, int wire_type, const std::string& bytes) { return static_cast<char>(number << 3 | wire_type) + bytes; }
std::string field(int number, std::string_view bytes) { return field(number, 2, varint(bytes.size()) + std::string(bytes)); }

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
std::string event(int64_t step, double wall_time, const std::string& content) {
  return field(1, 1, little_endian(wall_time)) + field(2, 0, varint(static_cast<uint64_t>(step))) + content;
}

// Summary { repeated Value value = 1; }   Value { string tag = 1; float simple_value = 2; }
std::string summary(const std::vector<Scalar>& scalars) {
  std::string values;
  for (const Scalar& scalar : scalars) values += field(1, field(1, scalar.tag) + field(2, 5, little_endian(static_cast<float>(scalar.value))));
  return values;
}

std::string events_path(const std::string& run, double wall_time) {
  const std::string folder = run + "/events";
  if (::mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) {
    throw Error(ExitCode::kInputOutput, fmt::format("cannot make the directory {}: {}; check the permissions", folder, std::strerror(errno)));
  }
  char host[65] = "host";
  ::gethostname(host, sizeof(host) - 1);
  return fmt::format("{}/events.out.tfevents.{}.{}.{}", folder, static_cast<int64_t>(std::floor(wall_time)), host, ::getpid());
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t value = 0xffffffffu;
  for (char c : bytes) value = (value >> 8) ^ kCrcTable[(value ^ static_cast<unsigned char>(c)) & 255u];
  return ~value;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t value = crc32c(bytes);
  return ((value >> 15) | (value << 17)) + 0xa282ead8u;
}

std::vector<Scalar> scalars_of(const StepMetrics& metrics) {
  std::vector<Scalar> scalars{{"loss", metrics.loss},
                              {"learning_rate", metrics.learning_rate},
                              {"gradient_norm", metrics.gradient_norm},
                              {"tokens_per_second", metrics.tokens_per_second},
                              {"moe/balance_loss", metrics.balance_loss},
                              {"moe/z_loss", metrics.z_loss},
                              {"moe/dropped_fraction", metrics.dropped_fraction},
                              {"seconds/step", metrics.step_seconds},
                              {"seconds/all_to_all", metrics.all_to_all_seconds},
                              {"seconds/gradient_sum", metrics.gradient_sum_seconds},
                              {"seconds/compute", metrics.compute_seconds},
                              {"seconds/publish", metrics.publish_seconds},
                              {"seconds/control", metrics.control_seconds},
                              {"seconds/input", metrics.input_seconds},
                              {"padding_tokens", static_cast<double>(metrics.padding_tokens)},
                              {"skips", static_cast<double>(metrics.skips)}};
  for (size_t i = 0; i < metrics.layers.size(); ++i) {
    const LayerMetrics& layer = metrics.layers[i];
    scalars.push_back({fmt::format("moe/layer_{}/dropped", i), layer.dropped});
    scalars.push_back({fmt::format("moe/layer_{}/entropy", i), layer.entropy});
    scalars.push_back({fmt::format("moe/layer_{}/confidence", i), layer.confidence});
    for (const auto& [way, error] : layer.payload_error) {
      if (std::isfinite(error)) scalars.push_back({fmt::format("payload_error/layer_{}/{}", i, way), error});
    }
    for (size_t expert = 0; expert < layer.load.size(); ++expert) scalars.push_back({fmt::format("load/layer_{}/expert_{}", i, expert), layer.load[expert]});
  }
  return scalars;
}

std::vector<Scalar> scalars_of(const HeldoutMetrics& metrics) {
  std::vector<Scalar> scalars{{"heldout/loss", metrics.loss}, {"heldout/accuracy", metrics.accuracy}};
  if (std::isfinite(metrics.bits_per_byte)) scalars.push_back({"heldout/bits_per_byte", metrics.bits_per_byte});
  return scalars;
}

std::vector<Scalar> scalars_of(const Alarm& alarm) {
  return {{alarm.layer < 0 ? "alarm/" + alarm.kind : fmt::format("alarm/layer_{}/{}", alarm.layer, alarm.kind), alarm.value}};
}

EventWriter::EventWriter(const std::string& run, int64_t step, double wall_time) : file_(events_path(run, wall_time), false) {
  append(event(0, wall_time, field(3, "brain.Event:2")));
  // SessionLog { Status status = 1 }, START = 1: from here on, earlier files no longer count.
  if (step > 0) append(event(step + 1, wall_time, field(7, field(1, 0, varint(1)))));
}

void EventWriter::write(int64_t step, double wall_time, const std::vector<Scalar>& scalars) { append(event(step, wall_time, field(5, summary(scalars)))); }

// TFRecord: length (8 bytes), masked CRC of the length, the bytes, masked CRC of the bytes.
void EventWriter::append(std::string_view event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  file_.append(length + little_endian(masked_crc32c(length)) + std::string(event) + little_endian(masked_crc32c(event)));
}

}  // namespace switchyard
