// The exchange in chunks: what they are, in which order they travel, and that no bit depends on them.
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "src/moe/row_table.h"
#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

// ---- what a chunk is ---------------------------------------------------------------------------------------------------

// counts[lane][expert]; what the rank that hosts them all makes of it, on as many ranks as there are lanes.
RowTable table_of(const std::vector<std::vector<int32_t>>& counts, int chunks) {
  const int lanes = static_cast<int>(counts.size()), experts = static_cast<int>(counts[0].size());
  std::vector<ExpertRange> hosted(counts.size());
  hosted[0] = {0, experts};
  RowTable table;
  table.experts = table.copies = experts;
  table.lanes = lanes;
  for (const auto& lane : counts) table.arrived.insert(table.arrived.end(), lane.begin(), lane.end());
  lay_out(table, counts[0], hosted, chunks);
  return table;
}

// The rows of each chunk from one lane.
std::vector<int64_t> rows_from(const RowTable& table, int64_t lane) {
  std::vector<int64_t> rows;
  for (const Chunk& chunk : table.chunks) {
    int64_t sum = 0;
    for (const Piece& piece : chunk.pieces) sum += piece.lane == lane ? piece.rows : 0;
    rows.push_back(sum);
  }
  return rows;
}

const std::vector<std::vector<std::vector<int32_t>>>& count_tables() {
  static const std::vector<std::vector<std::vector<int32_t>>> all{
      {{0, 0, 0}},
      {{1}},
      {{256}},
      {{1000}, {0}, {257}},
      {{100, 90, 110, 100, 95, 105}, {0, 600, 0, 0, 1, 0}},
      {{3, 5000, 2, 700}},
      {{17, 17}, {16, 0}, {0, 2048}},
  };
  return all;
}

TEST(Chunks, HaveEveryRowOnceInOrderAndAreCutBetweenPanels) {
  for (const auto& counts : count_tables()) {
    for (const int chunks : {1, 2, 3, 4, 32}) {
      const RowTable table = table_of(counts, chunks);
      ASSERT_EQ(table.chunks.size(), static_cast<size_t>(chunks));
      std::map<std::pair<int64_t, int>, int64_t> seen;  // rows of (lane, expert) in the chunks so far
      for (const Chunk& chunk : table.chunks) {
        ASSERT_EQ(chunk.host.size(), chunk.pieces.size());
        for (size_t i = 0; i < chunk.pieces.size(); ++i) {
          const Piece& piece = chunk.pieces[i];
          int64_t& before = seen[{piece.lane, piece.expert}];
          EXPECT_EQ(piece.first_slot, before) << "expert " << piece.expert << ", lane " << piece.lane;
          EXPECT_EQ(piece.first_slot % kRowPanel, 0);
          EXPECT_EQ(piece.first_row, table.offset[table.block(piece.expert, static_cast<int>(piece.lane))] + piece.first_slot);
          before += piece.rows;
          EXPECT_EQ(chunk.host[i].peer, piece.lane);
          EXPECT_EQ(chunk.host[i].first_row, piece.first_row);
          EXPECT_EQ(chunk.host[i].rows, piece.rows);
          EXPECT_TRUE(i == 0 || piece.first_row > chunk.pieces[i - 1].first_row) << "pieces are sorted by (expert, lane)";
        }
      }
      for (size_t lane = 0; lane < counts.size(); ++lane) {
        for (size_t e = 0; e < counts[lane].size(); ++e) EXPECT_EQ((seen[{static_cast<int64_t>(lane), static_cast<int>(e)}]), counts[lane][e]);
      }
    }
  }
}

TEST(Chunks, AreTheSameAtHomeAndAtTheHost) {
  for (const auto& counts : count_tables()) {
    for (const int chunks : {1, 2, 4, 7}) {
      const RowTable table = table_of(counts, chunks);
      const std::vector<int64_t> arriving = rows_from(table, 0);  // lane 0 is this rank's own
      int64_t next = 0;
      for (size_t i = 0; i < table.chunks.size(); ++i) {
        const std::vector<Segment>& home = table.chunks[i].home;
        ASSERT_LE(home.size(), 1u) << "a chunk is one run of what goes to a peer";
        EXPECT_EQ(home.empty() ? 0 : home[0].rows, arriving[i]) << "chunk " << i << " of " << chunks;
        if (home.empty()) continue;
        EXPECT_EQ(home[0].peer, 0);
        EXPECT_EQ(home[0].first_row, next);
        next += home[0].rows;
      }
      EXPECT_EQ(next, table.entries);
    }
  }
}

TEST(Chunks, AreEqualPartsUpToAPanel) {
  // Experts of a few rows are grouped, an expert of many is cut.
  EXPECT_EQ(rows_from(table_of({{100, 100, 100, 100}}, 2), 0), (std::vector<int64_t>{200, 200}));
  EXPECT_EQ(rows_from(table_of({{100, 100, 100, 100}}, 4), 0), (std::vector<int64_t>{100, 100, 100, 100}));
  EXPECT_EQ(rows_from(table_of({{90, 110, 95, 105}}, 2), 0), (std::vector<int64_t>{200, 200}));
  EXPECT_EQ(rows_from(table_of({{1024}}, 4), 0), (std::vector<int64_t>{256, 256, 256, 256}));
  EXPECT_EQ(rows_from(table_of({{1024, 1024}}, 4), 0), (std::vector<int64_t>{512, 512, 512, 512}));
  EXPECT_EQ(rows_from(table_of({{40, 3000, 40, 40}}, 2), 0), (std::vector<int64_t>{1576, 1544})) << "a hot expert does not leave the other chunk empty";
  EXPECT_EQ(rows_from(table_of({{0, 300, 0}}, 4), 0), (std::vector<int64_t>{0, 256, 0, 44}));
  for (const int chunks : {2, 4}) {
    for (const int64_t rows : rows_from(table_of({{3, 5000, 2, 700}}, chunks), 0)) EXPECT_NEAR(static_cast<double>(rows), 5705.0 / chunks, kRowPanel);
  }
}

// ---- bits --------------------------------------------------------------------------------------------------------------

std::vector<NamedCase> cases() {
  return in_both_precisions(large_blocks_with_losses, [](const AddCase& add) {
    add("Usual").accumulate = 2;
    Case& uneven = add("UnevenExpertsDropless");  // 5 on 2, 3 and 4 ranks; most tokens to one of them
    uneven.tokens = 800;
    uneven.options.experts = 5;
    uneven.options.capacity_factor = 0;
    uneven.weight_scale = [](const std::string& name, int64_t row, int64_t) { return name == "moe.router.weight" && row == 2 ? 30.0 : 0.5; };
    Case& few = add("OneExpertGated");
    few.shape.activation = Activation::kGelu;
    few.shape.gated = true;
    few.options.experts = 1;
    few.options.capacity_factor = 0;
    Case& empty = add("EmptyLaneAndALaneOfPadding");  // 3 lanes on 2 and 4 ranks
    empty.lanes = 3;
    empty.mask = [](int lane, int64_t) { return lane == 1 ? 0 : 1; };
    Case& top2 = add("Top2SharedExperts");
    top2.options.experts = 4;
    top2.options.capacity_factor = 0;
    top2.options.top_k = 2;
    top2.options.shared_experts = 2;
    top2.options.feed_forward = 0;
    top2.shape.feed_forward = 24;
    Case& evaluation = add("Evaluation");
    evaluation.training = false;
    evaluation.options.eval_capacity_factor = 0;
  });
}

class OverlapCase : public testing::TestWithParam<NamedCase> {};

TEST_P(OverlapCase, BitsDoNotDependOnTheNumberOfChunks) {
  Case c = GetParam().c;
  const Result whole = run_step(c, 1);
  const std::vector<double>& counts = whole.at("counts 0 0");  // requested, then kept
  EXPECT_GT(*std::max_element(counts.begin() + c.options.experts, counts.end()), kRowPanel) << "no rows of an expert would be cut";
  for (const int chunks : {1, 2, 4}) {
    c.options.overlap_chunks = chunks;
    for (const int ranks : {1, 2, 3, 4}) {
      if (ranks > c.lanes && c.lanes > 3) continue;
      EXPECT_EQ(differences(whole, run_step(c, ranks)), "") << chunks << " chunks on " << ranks << " ranks";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, OverlapCase, testing::ValuesIn(cases()), [](const auto& tested) { return tested.param.name; });

TEST(Overlap, SoftMoeHasOneChunkWhateverIsAskedFor) {
  Case c;
  c.lanes = 2;
  c.options.router = RouterKind::kSoft;
  c.options.soft_slots = 2;
  c.options.jitter = c.options.balance_loss = c.options.z_loss = 0;
  const Result whole = run_step(c, 2);
  c.options.overlap_chunks = 4;
  EXPECT_EQ(differences(whole, run_step(c, 2)), "");
}

// ---- the order of events -------------------------------------------------------------------------------------------------

// Spans as "name" or, where a transfer starts, "name ->"; of a name, the first of each transfer is its start.
std::vector<std::string> spans_of(const Case& c, int ranks, int rank_asked) {
  std::vector<std::string> names;
  run_ranks(ranks, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    rank.trace.record(1000);
    Sink sink(c.precision.exact);
    rank.run(communicator.rank(), 0, nullptr, &sink);
    if (communicator.rank() != rank_asked) return;
    std::vector<TraceEvent> events = rank.trace.events();
    std::stable_sort(events.begin(), events.end(), [](const TraceEvent& a, const TraceEvent& b) { return a.begin_ns < b.begin_ns; });
    for (const TraceEvent& event : events) {
      const bool transfer = event.kind == SpanKind::kAllToAll && std::string(event.name) != "expert counts";
      const bool work = event.kind == SpanKind::kCompute && std::string(event.name).starts_with("experts");
      if (transfer || work) names.emplace_back(event.name);
    }
  });
  return names;
}

TEST(Overlap, OnEveryRankAChunkTravelsWhileAnotherIsComputed) {
  Case c;
  c.lanes = 3;
  c.tokens = 8;
  c.options.experts = 2;  // rank 2 hosts none
  c.options.overlap_chunks = 3;
  const std::vector<std::string> expected{"outbox",
                                          "dispatch",  // chunk 0 leaves
                                          "outbox",
                                          "dispatch",
                                          "dispatch",
                                          "experts",
                                          "outbox",
                                          "experts",
                                          "combine",  // 1 leaves, 0 is here
                                          "outbox",
                                          "dispatch",
                                          "dispatch",
                                          "experts",
                                          "outbox",
                                          "experts",
                                          "combine",  // 2 leaves, 1 is here
                                          "dispatch",
                                          "experts",
                                          "outbox",
                                          "experts",
                                          "combine",  // 2 is here
                                          "combine",
                                          "combine",  // the last two are home
                                          "outbox",
                                          "combine backward",
                                          "outbox",
                                          "combine backward",
                                          "combine backward",
                                          "experts backward",
                                          "outbox",
                                          "experts backward",
                                          "dispatch backward",
                                          "outbox",
                                          "combine backward",
                                          "combine backward",
                                          "experts backward",
                                          "outbox",
                                          "experts backward",
                                          "dispatch backward",
                                          "combine backward",
                                          "experts backward",
                                          "outbox",
                                          "experts backward",
                                          "dispatch backward",
                                          "experts backward",  // weights, while the last rows travel
                                          "dispatch backward",
                                          "dispatch backward"};
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(spans_of(c, 3, rank), expected) << "rank " << rank;
}

TEST(Overlap, EveryRankIssuesAsManyTransfersAsChunksAlsoWithoutTokens) {
  Case c;
  c.lanes = 1;  // rank 1 has an empty lane
  c.mask = [](int, int64_t) { return 0; };
  c.options.overlap_chunks = 4;
  for (int rank = 0; rank < 2; ++rank) {
    const std::vector<std::string> names = spans_of(c, 2, rank);
    for (const char* name : {"dispatch", "combine backward"}) EXPECT_EQ(std::count(names.begin(), names.end(), name), 2 * 4) << name << ", rank " << rank;
    for (const char* name : {"combine", "dispatch backward"}) EXPECT_EQ(std::count(names.begin(), names.end(), name), 4 + 2) << name << ", rank " << rank;
  }
}

}  // namespace
}  // namespace switchyard
