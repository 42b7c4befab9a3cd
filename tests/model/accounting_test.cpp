// What summary tells about a model is what the model is.
#include "src/model/accounting.h"

#include <gtest/gtest.h>

#include "comm/grid.h"
#include "comm/self.h"
#include "src/model/model.h"

namespace switchyard {
namespace {

ModelOptions small_model() {
  ModelOptions model;
  model.vocabulary = 64;
  model.width = 24;
  model.heads = 3;
  model.head_width = 10;
  model.feed_forward = 40;
  model.blocks = 5;
  model.sequence_length = 16;
  model.moe.experts = 6;
  model.moe.every = 2;
  return model;
}

// A token meets `experts` experts of each layer.
// Every layer of the table, by the names of the parameters that the model shows: a parameter belongs to the layer with the
// longest name that its own begins with.
void expect_counted(const ModelOptions& options, int active_experts = 1) {
  const auto self = make_self_communicator({});
  const Grid grid(0, 1, 1);
  const auto model = make_model(options, *self, grid);
  const std::vector<LayerCost> layers = layer_costs(options);
  std::vector<int64_t> all(layers.size(), 0), active(layers.size(), 0);
  model->visit([&](Parameter& parameter) {
    size_t found = layers.size(), length = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].parameters == 0 || !parameter.name.starts_with(layers[i].name + ".") || layers[i].name.size() < length) continue;
      found = i;
      length = layers[i].name.size();
    }
    ASSERT_LT(found, layers.size()) << parameter.name << " is in no layer";
    all[found] += parameter.shape.elements();
    if (parameter.expert < active_experts) active[found] += parameter.shape.elements();
  });
  for (size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(layers[i].parameters, all[i]) << layers[i].name;
    EXPECT_EQ(layers[i].active, active[i]) << layers[i].name;
  }
}

TEST(Accounting, CountsEveryParameterOfTheModel) {
  ModelOptions model = small_model();
  expect_counted(model);
  model.bias = true;
  expect_counted(model);
  model.norm.kind = NormKind::kRmsNorm;
  expect_counted(model);
  model.moe.every = 1;
  expect_counted(model);
  model.norm_place = NormPlace::kPost;
  expect_counted(model);
  model.position = Position::kRelativeBias;
  expect_counted(model);
  model.gated = true;
  expect_counted(model);
  model.moe.experts = 1;
  expect_counted(model);
}

TEST(Accounting, CountsEveryWayOfRouting) {
  ModelOptions model = small_model();
  model.bias = true;
  model.moe.top_k = 2;
  expect_counted(model, 2);
  model.moe.shared_experts = 3;
  model.moe.feed_forward = 7;
  expect_counted(model, 2);
  model.moe.router = RouterKind::kHash;
  expect_counted(model, 1);
  model.moe.router = RouterKind::kSoft;
  model.moe.soft_slots = 2;
  expect_counted(model, 6);
}

TEST(Accounting, CountsAClassifiersHead) {
  ModelOptions model = small_model();
  model.kind = ModelKind::kClassifier;
  model.classifier = {.classes = 3, .hidden = 9};
  expect_counted(model);
  model.classifier.hidden = 0;
  expect_counted(model);
  EXPECT_EQ(layer_costs(model).back().output, (std::vector<int64_t>{3}));
}

TEST(Accounting, FlopsFollowTheFormula) {
  ModelOptions model = small_model();
  const double attention = 2.0 * 4 * 24 * 30 + 4.0 * 30 * 17 / 2, feed_forward = 4.0 * 24 * 40, head = 2.0 * 24 * 64, router = 2.0 * 24 * 6;
  EXPECT_DOUBLE_EQ(model_cost(model).training_flops, 3 * (5 * attention + 5 * feed_forward + 2 * router + head));
}

TEST(Accounting, DenseTwinHasTheActiveParametersAndTheProducts) {
  ModelOptions sparse = small_model(), dense = small_model();
  dense.moe.experts = 1;
  const int64_t routers = 2 * 24 * 6;
  EXPECT_EQ(model_cost(sparse).active - routers, model_cost(dense).parameters);
  EXPECT_EQ(model_cost(dense).active, model_cost(dense).parameters);
  EXPECT_DOUBLE_EQ(model_cost(sparse).training_flops - 3.0 * 2 * routers, model_cost(dense).training_flops);
}

int64_t part(const std::vector<MemoryPart>& parts, const std::string& name) {
  for (const MemoryPart& candidate : parts) {
    if (candidate.name == name) return candidate.bytes;
  }
  ADD_FAILURE() << "no part is called " << name;
  return 0;
}

TEST(Accounting, OwnedStateIsDividedByTheRanks) {
  const ModelOptions model = small_model();
  MemoryShape shape{.ranks = 1, .lanes = 6, .accumulate = 1, .sequences = 2, .precision = kPrecisionF32, .moments = 2};
  const auto one = memory_per_rank(model, shape);
  EXPECT_EQ(part(one, "masters"), 4 * model_cost(model).parameters);
  EXPECT_EQ(part(one, "optimizer moments"), 8 * model_cost(model).parameters);
  EXPECT_EQ(part(one, "plain weights"), 0) << "one rank reads its masters in place";
  shape.ranks = 3;
  const auto three = memory_per_rank(model, shape);
  EXPECT_NEAR(static_cast<double>(part(three, "masters")), static_cast<double>(part(one, "masters")) / 3, 4);
  EXPECT_LT(part(three, "packed weights"), part(one, "packed weights"));
}

TEST(Accounting, ReplicasOfExpertsCostWeightsAndSumsButNoMoments) {
  const ModelOptions model = small_model();
  MemoryShape shape{.ranks = 6, .lanes = 6, .accumulate = 1, .sequences = 2, .precision = kPrecisionF32, .moments = 2};
  const auto one = memory_per_rank(model, shape);
  shape.replicas = 3;  // of 6 experts a rank has 3 of one replica, where it had 1
  const auto three = memory_per_rank(model, shape);
  for (const char* name : {"masters", "optimizer moments", "gradient sums"}) EXPECT_EQ(part(three, name), part(one, name)) << name;
  const int64_t expert = 2 * 2 * 24 * 40 * 4;  // bytes, of both blocks
  EXPECT_EQ(part(three, "packed weights") - part(one, "packed weights"), 2 * 2 * expert) << "two layouts of two more";
  EXPECT_EQ(part(three, "plain weights") - part(one, "plain weights"), 3 * expert) << "as they arrive";
  EXPECT_EQ(part(three, "gradients of lanes") - part(one, "gradients of lanes"), (3 + 2 * 2) * expert) << "three sums, and two inboxes for two other hosts";
  EXPECT_EQ(part(three, "saved activations"), part(one, "saved activations")) << "as many rows, of fewer lanes to more experts";
}

TEST(Accounting, Bf16HalvesWhatIsComputedWith) {
  const ModelOptions model = small_model();
  MemoryShape shape{.ranks = 1, .lanes = 2, .accumulate = 1, .sequences = 2, .precision = kPrecisionF32, .moments = 2};
  const auto f32 = memory_per_rank(model, shape);
  shape.precision = kPrecisionBF16;
  const auto bf16 = memory_per_rank(model, shape);
  EXPECT_EQ(part(bf16, "masters"), part(f32, "masters"));
  const int64_t routers = 2 * 2 * 24 * 6 * 4;  // packed twice, exact
  EXPECT_EQ(2 * (part(bf16, "packed weights") - routers), part(f32, "packed weights") - routers);
}

}  // namespace
}  // namespace switchyard
