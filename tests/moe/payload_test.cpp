// Rows that travel compressed: the same bits on any number of ranks and chunks, and what they lose.
#include "src/moe/payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "src/moe/router_state.h"
#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

constexpr PayloadFormat kPlain = PayloadFormat::kPlain, kInt8 = PayloadFormat::kInt8, kFp8 = PayloadFormat::kFp8;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Rows of a block and a half.
Case usual(Precision precision, const Payloads& payloads) {
  Case c = large_blocks(precision, 100);
  c.options.payload.format = payloads;
  return c;
}

std::vector<NamedCase> cases() {
  std::vector<NamedCase> all{{"Int8F32", usual(kPrecisionF32, {kInt8, kInt8, kInt8, kInt8})},
                             {"Fp8F32", usual(kPrecisionF32, {kFp8, kFp8, kFp8, kFp8})},
                             {"Int8BF16", usual(kPrecisionBF16, {kInt8, kInt8, kInt8, kInt8})},
                             {"Fp8BF16", usual(kPrecisionBF16, {kFp8, kFp8, kFp8, kFp8})},
                             {"EachWayItsOwn", usual(kPrecisionF32, {kPlain, kInt8, kFp8, kPlain})}};
  Case top2 = usual(kPrecisionF32, {kInt8, kFp8, kFp8, kInt8});
  top2.options.experts = 5;
  top2.options.capacity_factor = 0;
  top2.options.top_k = 2;
  top2.options.shared_experts = 1;
  top2.tokens = 300;
  all.push_back({"Top2SharedDropless", top2});
  Case empty = usual(kPrecisionF32, {kInt8, kInt8, kFp8, kFp8});
  empty.lanes = 3;
  empty.mask = [](int lane, int64_t) { return lane == 1 ? 0 : 1; };
  all.push_back({"EmptyLaneAndALaneOfPadding", empty});
  return all;
}

class PayloadCase : public testing::TestWithParam<NamedCase> {};
INSTANTIATE_TEST_SUITE_P(All, PayloadCase, testing::ValuesIn(cases()), [](const auto& tested) { return tested.param.name; });

TEST_P(PayloadCase, BitsDependNeitherOnRanksNorOnChunks) {
  Case c = GetParam().c;
  const Result whole = run_step(c, 1);
  Case plain = c;
  plain.options.payload = {};
  EXPECT_NE(differences(whole, run_step(plain, 1)), "") << "nothing was compressed";
  for (const int chunks : {1, 2, 4}) {
    c.options.overlap_chunks = chunks;
    for (const int ranks : {1, 2, 3, 4}) {
      if (ranks > c.lanes && c.lanes > 3) continue;
      EXPECT_EQ(differences(whole, run_step(c, ranks)), "") << chunks << " chunks on " << ranks << " ranks";
    }
  }
}

TEST_P(PayloadCase, EachCompressedWayIsMeasured) {
  const Case& c = GetParam().c;
  const std::vector<double> squares = run_step(c, 2).at("payload 0 0");
  ASSERT_EQ(squares.size(), 2 * kWays);
  for (size_t way = 0; way < kWays; ++way) {
    const PayloadLoss loss{squares[2 * way], squares[2 * way + 1]};
    const std::string where = name(static_cast<Way>(way));
    switch (c.options.payload.format[way]) {
      case kPlain: EXPECT_TRUE(std::isnan(loss.relative())) << where; break;
      case kInt8: EXPECT_THAT(loss.relative(), testing::AllOf(testing::Gt(0.003), testing::Lt(0.01))) << where; break;
      case kFp8: EXPECT_THAT(loss.relative(), testing::AllOf(testing::Gt(0.02), testing::Lt(0.03))) << where; break;
    }
  }
}

TEST(Payload, SoftMoeSendsItsSlotsCompressed) {
  Case c;
  c.lanes = 2;
  c.options.router = RouterKind::kSoft;
  c.options.soft_slots = 2;
  c.options.jitter = c.options.balance_loss = c.options.z_loss = 0;
  const Result plain = run_step(c, 1);
  c.options.payload.format.fill(kInt8);
  const Result whole = run_step(c, 1);
  EXPECT_NE(differences(plain, whole), "");
  EXPECT_EQ(differences(whole, run_step(c, 2)), "");
}

// The names of what differs in kind: "y 0 0" and "y 1 0" are "y".
std::vector<std::string> kinds_that_differ(const Result& a, const Result& b) {
  std::vector<std::string> kinds;
  for (const auto& [name, values] : a) {
    std::string kind = name.substr(0, name.find(' '));
    if (kind == "payload" || values == b.at(name)) continue;
    if (kind.starts_with("moe.expert")) kind = kind.substr(kind.find('.', 11) + 1);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  std::sort(kinds.begin(), kinds.end());
  return kinds;
}

TEST(Payload, AWayChangesOnlyWhatComesAfterIt) {
  Case c;
  c.shape.width = 70;
  c.lanes = 2;
  c.options.balance_loss = 0;
  const Result plain = run_step(c, 1);
  const auto with = [&](Way way) {
    Case compressed = c;
    compressed.options.payload.format[static_cast<size_t>(way)] = kInt8;
    return kinds_that_differ(run_step(compressed, 1), plain);
  };
  EXPECT_THAT(with(Way::kDispatch), testing::ElementsAre("dx", "in.weight", "moe.router.weight", "out.weight", "y"));
  EXPECT_THAT(with(Way::kCombine), testing::ElementsAre("dx", "moe.router.weight", "y")) << "a gate's gradient is the output that came home";
  EXPECT_THAT(with(Way::kCombineBackward), testing::ElementsAre("dx", "in.weight", "out.weight"));
  EXPECT_THAT(with(Way::kDispatchBackward), testing::ElementsAre("dx"));
}

TEST(Payload, WhatArrivesIsTheRowAsItsPayloadSaysAndZerosBehindIt) {
  Case c;
  c.shape.width = 70;
  c.lanes = 3;
  c.options.experts = 5;
  c.options.payload.format[0] = kFp8;
  run_ranks(3, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Context& ctx = rank.ctx;
    const auto inputs = [&](int lane) {
      const Tensor x = ctx.keep(Dtype::kF64, {c.tokens, 70});
      fill(x, [&](int64_t t, int64_t d) { return c.x(lane, 0, t, d); });
      return x;
    };
    ctx.key.lane = communicator.rank();
    fill(ctx.temporary(Dtype::kF64, {200, 70}), [](int64_t, int64_t) { return 1e9; });  // what was in the memory must not show
    rank.layer.forward(ctx, inputs(communicator.rank()), c.batch(ctx, communicator.rank(), c.tokens), rank.kept);
    const Rows& arrived = rank.kept.experts.arrived;
    const RowTable& table = *arrived.table;
    for (const Piece& piece : table.chunks[0].pieces) {
      const Tensor x = inputs(static_cast<int>(piece.lane)), payload = ctx.keep(Dtype::kI32, {c.tokens, payload_words(70)}),
                   y = ctx.keep(Dtype::kF64, x.shape());
      ctx.backend.quantise(Out(payload), Out(Tensor()), x, kFp8);
      ctx.backend.dequantise(Out(y), Out(Tensor()), payload, kFp8);
      for (int64_t i = 0; i < piece.rounded(); ++i) {
        const std::vector<double> row = to_doubles(arrived.buffer.slice_rows(piece.first_row + i, 1));
        int64_t alike = 0;
        for (int64_t t = 0; t < c.tokens && i < piece.rows; ++t) alike += row == to_doubles(y.slice_rows(t, 1)) ? 1 : 0;
        if (i < piece.rows) {
          EXPECT_EQ(alike, 1) << "row " << i << " of expert " << piece.expert << " from lane " << piece.lane << " is no token's";
        } else {
          EXPECT_EQ(row, std::vector<double>(70, 0.0)) << "padding of expert " << piece.expert;
        }
      }
    }
  });
}

TEST(Payload, ARowOfWideModelsTakesAThirdOfItsBytes) {
  PayloadOptions options;
  EXPECT_EQ(options.row_bytes(512, Dtype::kF32), 2048);
  options.format.fill(kInt8);
  options.error_bound = 0;
  EXPECT_EQ(options.row_bytes(512, Dtype::kF32), 512 + 8 * 4 + 8);
  options.error_bound = 0.05;
  EXPECT_EQ(options.row_bytes(512, Dtype::kF32), 2048) << "a fall-back may come";
  EXPECT_EQ(options.row_bytes(1, Dtype::kBF16), 16) << "a narrow row is longer as a payload";
  options.error_bound = 0;
  options.format[2] = kPlain;
  EXPECT_EQ(options.row_bytes(512, Dtype::kBF16), 1024) << "one way is plain";
}

// ---- falling back --------------------------------------------------------------------------------------------------------

RouterState state_with(double bound) {
  MoeOptions options;
  options.payload.format = {kInt8, kFp8, kPlain, kFp8};
  options.payload.error_bound = bound;
  return make_router_state("moe.router", options);
}

TEST(PayloadFallBack, IsOfTheWayThatLostMoreThanTheBoundAndComesOnce) {
  RouterState state = state_with(0.02);
  EXPECT_EQ(state.payloads(), (Payloads{kInt8, kFp8, kPlain, kFp8}));
  EXPECT_TRUE(state.fall_back({0.006, 0.02, kNaN, 0.019}).empty()) << "a bound that is reached holds";
  EXPECT_EQ(state.fall_back({0.006, 0.021, kNaN, 0.019}), std::vector<Way>{Way::kCombine});
  EXPECT_EQ(state.payloads(), (Payloads{kInt8, kPlain, kPlain, kFp8}));
  EXPECT_TRUE(state.fall_back({0.006, kNaN, kNaN, 0.019}).empty());
  EXPECT_EQ(state.fall_back({0.5, kNaN, kNaN, 0.5}), (std::vector<Way>{Way::kDispatch, Way::kDispatchBackward}));
  EXPECT_EQ(state.payloads(), Payloads{});
}

TEST(PayloadFallBack, NeverComesWithoutABoundOrWithoutCompression) {
  RouterState unbounded = state_with(0);
  EXPECT_TRUE(unbounded.fall_back({1, 1, kNaN, 1}).empty());
  RouterState plain = make_router_state("moe.router", MoeOptions{});
  EXPECT_TRUE(plain.fallen_back.empty()) << "nothing to remember";
  EXPECT_TRUE(plain.fall_back({}).empty());
}

TEST(PayloadFallBack, OfEveryWayIsThePlainLayer) {
  Case c;
  c.lanes = 3;
  const Result plain = run_step(c, 2);
  c.options.payload.format.fill(kFp8);
  EXPECT_FALSE(kinds_that_differ(run_step(c, 2), plain).empty());
  c.remember = [](RouterState& state) { state.fallen_back.assign(kWays, 1); };
  EXPECT_TRUE(kinds_that_differ(run_step(c, 2), plain).empty());
}

}  // namespace
}  // namespace switchyard
