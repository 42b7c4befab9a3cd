#include "src/report/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

uint64_t number(const std::string& bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// The payloads of a file of TFRecords; every length and checksum is verified.
std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> result;
  for (size_t at = 0; at < file.size();) {
    const std::string length = file.substr(at, 8);
    const size_t bytes = number(file, at, 8);
    EXPECT_EQ(number(file, at + 8, 4), masked_crc32c(length)) << "checksum of a length";
    result.push_back(file.substr(at + 12, bytes));
    EXPECT_EQ(number(file, at + 12 + bytes, 4), masked_crc32c(result.back())) << "checksum of a record";
    at += 16 + bytes;
  }
  return result;
}

// RFC 3720, B.4, and the check value of the CRC catalogue.
TEST(TensorBoard, Crc32cHasThePublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
}

TEST(TensorBoard, AScalarIsTheEventThatTensorBoardReads) {
  Scratch scratch;
  EventWriter writer(scratch.path(), 0, 1.5);
  writer.write(300, 2.0, {{"loss", 0.5}});
  const std::vector<std::string> found = records(read_file(writer.path()));
  ASSERT_EQ(found.size(), 2u);
  using namespace std::string_literals;
  // wall_time = 1.5 (field 1, double), step = 0 (field 2, varint), file_version (field 3)
  EXPECT_EQ(found[0], "\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x00\x1a\x0d"s + "brain.Event:2");
  // step = 300, summary (field 5) { value (field 1) { tag (field 1) "loss", simple_value (field 2, float) 0.5 } }
  EXPECT_EQ(found[1], "\x09\x00\x00\x00\x00\x00\x00\x00\x40\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f"s);
}

TEST(TensorBoard, AResumedRunTellsThatLaterStepsOfEarlierFilesNoLongerCount) {
  Scratch scratch;
  const std::vector<std::string> found = records(read_file(EventWriter(scratch.path(), 7, 0).path()));
  ASSERT_EQ(found.size(), 2u);
  using namespace std::string_literals;
  EXPECT_EQ(found[1].substr(9), "\x10\x08\x3a\x02\x08\x01"s) << "step 8, session_log { status: START }";
}

TEST(TensorBoard, FilesLieInTheEventsFolderUnderTheNameThatTensorBoardLooksFor) {
  Scratch scratch;
  const std::string path = EventWriter(scratch.path(), 0, 1234.9).path();
  EXPECT_EQ(path.rfind(scratch.path("events/events.out.tfevents.1234."), 0), 0u) << path;
}

TEST(TensorBoard, MetricsBecomeScalarsWithTheExpertsLoads) {
  StepMetrics metrics;
  metrics.loss = 2;
  metrics.layers = {{{0.25, 0.75}, 0.5, 0.6, 0.7}, {{1.0}, 0, 0, 1}};
  metrics.layers[1].payload_error = {{"dispatch", 0.006}, {"combine", std::nan("")}};
  std::vector<std::string> tags;
  for (const Scalar& scalar : scalars_of(metrics)) tags.push_back(scalar.tag);
  EXPECT_THAT(tags, ::testing::IsSupersetOf({"loss", "learning_rate", "moe/dropped_fraction", "moe/layer_0/dropped", "moe/layer_1/confidence",
                                             "load/layer_0/expert_1", "load/layer_1/expert_0", "payload_error/layer_1/dispatch"}));
  EXPECT_THAT(tags, ::testing::Not(::testing::Contains("payload_error/layer_1/combine"))) << "a way that is not compressed loses nothing";
  EXPECT_THAT(tags, ::testing::Not(::testing::Contains("load/layer_1/expert_1")));
}

TEST(TensorBoard, EvaluationsAndAlarmsHaveTagsOfTheirOwn) {
  const std::vector<Scalar> heldout = scalars_of(HeldoutMetrics{.loss = 2, .bits_per_byte = std::nan("")});
  ASSERT_EQ(heldout.size(), 2u) << "bits per byte that are not known are left out";
  EXPECT_EQ(heldout[0].tag, "heldout/loss");
  EXPECT_EQ(scalars_of(Alarm{.kind = "load", .layer = 2, .value = 5})[0].tag, "alarm/layer_2/load");
  EXPECT_EQ(scalars_of(Alarm{.kind = "skipped_update"})[0].tag, "alarm/skipped_update");
}

}  // namespace
}  // namespace switchyard
