// A step on a device against the same step on the CPU: its losses, and the gradient of every parameter, with the CPU's routes.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "comm/accelerator.h"
#include "comm/self.h"
#include "src/moe/route.h"
#include "tests/train/tiny_helper.h"

extern "C" const switchyard::AcceleratorPlugin* switchyard_accelerator();

namespace switchyard {
namespace {

struct NamedJob {
  std::string name;
  TinyJob job;
  double bound = 1e-4;  // of a gradient's relative distance
};
void PrintTo(const NamedJob& named, std::ostream* stream) { *stream << named.name; }

std::vector<NamedJob> jobs() {
  std::vector<NamedJob> all;
  const auto add = [&](const std::string& name, TinyJob job) -> ModelOptions& {
    job.cpu_backend = true;
    job.trainer.train.lanes = 2;
    all.push_back({name, std::move(job)});
    return all.back().job.trainer.model;
  };
  add("Decoder", tiny_job());
  add("Classifier", tiny_classifier_job());
  ModelOptions& t5 = add("GatedGeluRmsNormRelativeBias", tiny_job());
  t5.activation = Activation::kGelu;
  t5.gated = true;
  t5.norm.kind = NormKind::kRmsNorm;
  t5.position = Position::kRelativeBias;
  ModelOptions& top2 = add("Top2SharedExpertChunks", tiny_job());
  top2.moe.top_k = 2;
  top2.moe.shared_experts = 1;
  top2.moe.capacity_factor = 0;
  top2.moe.overlap_chunks = 2;
  add("SoftMixer", tiny_job()).moe.router = RouterKind::kSoft;
  ModelOptions& payload = add("Int8Payloads", tiny_job());
  payload.moe.payload.format = {PayloadFormat::kInt8, PayloadFormat::kInt8, PayloadFormat::kInt8, PayloadFormat::kInt8};
  all.back().bound = 1.0 / 254;  // a number between two codes may go to the other one
  return all;
}

struct Step {
  StepReport report;
  std::map<std::string, std::vector<double>> gradients;
};

// The first step; F32.
Step first_step(const TinyJob& job, Communicator& communicator, RouteBook& routes) {
  TinyRank rank(job, communicator);
  rank.trainer().initialise(1);
  rank.trainer().runtime().use_routes(&routes);
  Step step;
  step.report = rank.trainer().step(rank.batches());
  for (const StateTensor& tensor : rank.trainer().runtime().store().gradient_state()) {
    for (const StateBlock& block : tensor.blocks) {
      const float* numbers = block.data.get<float>();
      std::vector<double>& all = step.gradients[tensor.name];
      all.insert(all.end(), numbers, numbers + block.data.elements());
    }
  }
  return step;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
}

class DeviceStep : public testing::TestWithParam<NamedJob> {};
INSTANTIATE_TEST_SUITE_P(Jobs, DeviceStep, testing::ValuesIn(jobs()), [](const auto& job) { return job.param.name; });

TEST_P(DeviceStep, HasTheLossesAndGradientsOfTheCpu) {
  std::string sentence;
  const AcceleratorPlugin& plugin = *switchyard_accelerator();
  if (plugin.devices(sentence) == 0) GTEST_SKIP() << sentence;
  TinyJob job = GetParam().job;
  RouteBook routes;
  const auto host = make_self_communicator({});
  const Step expected = first_step(job, *host, routes);

  const auto accelerator = plugin.open(0);
  job.backend = &accelerator->backend();
  routes.mode = RouteBook::Mode::kReplay;
  const auto device = accelerator->connect(make_self_communicator({}), {});
  const Step actual = first_step(job, *device, routes);

  const double loss = expected.report.loss.total();
  EXPECT_NEAR(actual.report.loss.total(), loss, 1e-5 * std::abs(loss));
  ASSERT_EQ(actual.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients) {
    EXPECT_LE(distance(actual.gradients.at(name), gradient), GetParam().bound) << "of " << name << ": look at the operations of its layer";
  }
}

}  // namespace
}  // namespace switchyard
