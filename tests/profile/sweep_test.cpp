// The sweep on thread ranks: what it measures on an emulated link, what it checks, and what its reports say.
#include "src/profile/sweep.h"

#include <gmock/gmock.h>

#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>

#include "src/profile/payload.h"
#include "src/profile/sweep_report.h"
#include "tests/comm/emulated.h"
#include "tests/profile/schema.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr LinkModel kModel{{20e-6, 2e9}, {150e-6, 120e6}};

// A number in [-1, 1], another one for each index.
double wobble(size_t index) { return std::sin(static_cast<double>(index) * 12.9898 + 4.1) * 0.999; }

std::vector<FitSample> samples_of(const Link& link, double noise) {
  std::vector<FitSample> samples;
  for (const int peers : {1, 3, 7}) {
    for (int64_t size = 4096; size <= 4 << 20; size *= 4) {
      FitSample sample{static_cast<double>(peers), static_cast<double>(peers) * static_cast<double>(size), 0};
      sample.seconds = (sample.messages * link.alpha + sample.bytes / link.bytes_per_second) * (1 + noise * wobble(samples.size()));
      samples.push_back(sample);
    }
  }
  return samples;
}

TEST(Fit, RecoversAlphaAndBetaWithinFivePercent) {
  for (const Link& link : {Link{2e-6, 9.5e9}, Link{30e-6, 118e6}, Link{1e-3, 50e9}}) {
    for (const double noise : {0.0, 0.02}) {
      const auto fit = fit_link(samples_of(link, noise));
      ASSERT_TRUE(fit);
      EXPECT_NEAR(fit->link.alpha, link.alpha, 0.05 * link.alpha) << "noise " << noise;
      EXPECT_NEAR(fit->link.bytes_per_second, link.bytes_per_second, 0.05 * link.bytes_per_second) << "noise " << noise;
      EXPECT_EQ(fit->samples, 18);
      EXPECT_LE(fit->error, noise + 1e-9);
    }
  }
}

TEST(Fit, NeedsBytesAndNeverGivesANegativeAlpha) {
  EXPECT_FALSE(fit_link({}));
  EXPECT_FALSE(fit_link(std::vector<FitSample>{{1, 0, 1e-6}, {1, 4096, 0}}));
  const auto one = fit_link(std::vector<FitSample>{{1, 4096, 4096e-9}});
  ASSERT_TRUE(one) << "a single size gives beta alone";
  EXPECT_NEAR(one->link.bytes_per_second, 1e9, 1);
  EXPECT_EQ(one->link.alpha, 0);
  const auto steep = fit_link(std::vector<FitSample>{{1, 1000, 1e-6}, {1, 2000, 4e-6}});
  ASSERT_TRUE(steep);
  EXPECT_EQ(steep->link.alpha, 0);
  EXPECT_GT(steep->link.bytes_per_second, 0);
}

// One rank of an emulated world whose clock only the links move.
struct Emulated {
  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>();
  std::unique_ptr<Communicator> links;
  std::unique_ptr<Exchanger> exchanger;

  Emulated(Communicator& world, const std::vector<int>& hosts) : links(emulate(world, kModel, hosts, clock)), exchanger(make_exchanger(*links)) {}
  SweepOptions options() const {
    SweepOptions options;
    options.sizes = parse_sizes("4KiB:4MiB", 4);
    options.iterations = 5;
    options.warm_up = 1;
    options.clock = [held = clock] { return static_cast<double>(held->now_ns()) * 1e-9; };
    return options;
  }
};

TEST(Sweep, FindsAlphaAndBetaOfAnEmulatedLink) {
  const std::vector<int> hosts = {0, 0, 1, 1};
  run_ranks(4, [&](Communicator& world) {
    Emulated emulated(world, hosts);
    SweepOptions options = emulated.options();
    options.sections = {Pairs::kWithinHosts, Pairs::kBetweenHosts};
    const std::vector<SweepRow> rows = sweep(world, {{"EMULATED", emulated.exchanger.get()}}, hosts, options);
    ASSERT_EQ(rows.size(), 12u);
    const std::vector<TransportFit> fits = fit_rows(rows, hosts);
    ASSERT_EQ(fits.size(), 1u);
    ASSERT_TRUE(fits[0].within && fits[0].between);
    EXPECT_NEAR(fits[0].within->link.alpha, kModel.within_host.alpha, 0.05 * kModel.within_host.alpha);
    EXPECT_NEAR(fits[0].within->link.bytes_per_second, kModel.within_host.bytes_per_second, 0.05 * kModel.within_host.bytes_per_second);
    EXPECT_NEAR(fits[0].between->link.alpha, kModel.between_hosts.alpha, 0.05 * kModel.between_hosts.alpha);
    EXPECT_NEAR(fits[0].between->link.bytes_per_second, kModel.between_hosts.bytes_per_second, 0.05 * kModel.between_hosts.bytes_per_second);
  });
}

TEST(Sweep, TheLinkModelPredictsWhatTheEmulatedLinkTakes) {
  const std::vector<int> hosts = {0, 0, 1};
  run_ranks(3, [&](Communicator& world) {
    for (const char* pattern : {"uniform", "zipf:1.5"}) {
      Emulated emulated(world, hosts);
      SweepOptions options = emulated.options();
      options.pattern = parse_pattern(pattern);
      // Ranks end an uneven exchange at different times, and nothing brings fake clocks together again.
      options.iterations = 1;
      options.warm_up = options.check = 0;
      options.sizes = {1 << 20};
      std::vector<SweepRow> rows = sweep(world, {{"EMULATED", emulated.exchanger.get()}}, hosts, options);
      predict(rows, hosts, kModel);
      EXPECT_NEAR(rows[0].predicted, rows[0].time.p50, 0.01 * rows[0].time.p50) << pattern;
    }
  });
}

// Delivers what it gets, but for one word of one exchange.
class Spoiler final : public Exchanger {
 public:
  Spoiler(Exchanger& inner, int spoilt) : inner_(inner), spoilt_(spoilt) {}
  void prepare(const Traffic& traffic) override { inner_.prepare(traffic); }
  uint32_t* open() override { return inner_.open(); }
  void exchange() override {
    inner_.exchange();
    if (++exchanges_ == spoilt_) ++inner_.inbox()[3];
  }
  uint32_t* inbox() override { return inner_.inbox(); }

 private:
  Exchanger& inner_;
  int spoilt_, exchanges_ = 0;
};

TEST(Sweep, CountsWrongWordsBeforeAndAfterTheTimedExchanges) {
  // 2 checked, 3 of warm-up, 4 timed: the first two and the last one are compared.
  for (const auto& [spoilt, wrong] : {std::pair{1, 2}, {2, 2}, {5, 0}, {9, 2}, {10, 0}}) {
    run_ranks(2, [&, spoilt = spoilt, wrong = wrong](Communicator& world) {
      const auto exchanger = make_exchanger(world);
      Spoiler spoiler(*exchanger, spoilt);
      SweepOptions options;
      options.sizes = {4096};
      options.iterations = 4;
      options.warm_up = 3;
      options.check = 2;
      const std::vector<SweepRow> rows = sweep(world, {{"SPOILT", &spoiler}}, {0, 0}, options);
      EXPECT_EQ(rows[0].wrong, wrong) << "exchange " << spoilt << " spoilt on both ranks";
    });
  }
}

TEST(Sweep, EveryPatternArrivesOnAnyNumberOfRanks) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    run_ranks(ranks, [&](Communicator& world) {
      const auto exchanger = make_exchanger(world);
      std::vector<int> hosts(static_cast<size_t>(ranks), 0);
      for (const char* name : {"uniform", "zipf:2", "matrix:hot"}) {
        SweepOptions options;
        options.pattern = parse_pattern(name);
        options.pattern.matrix.assign(static_cast<size_t>(ranks * ranks), 0);
        for (int from = 0; from < ranks; ++from) options.pattern.matrix[static_cast<size_t>(from * ranks)] = 33;  // one hot rank, empty columns
        options.sizes = {1, 40000};
        options.iterations = 2;
        options.warm_up = 0;
        options.check = 3;
        const std::vector<SweepRow> rows = sweep(world, {{"THREAD", exchanger.get()}}, hosts, options);
        ASSERT_EQ(rows.size(), 2u);
        for (const SweepRow& row : rows) EXPECT_EQ(row.wrong, 0) << name << " on " << ranks << " ranks, " << row.pair_bytes << " bytes";
      }
    });
  }
}

TEST(Sweep, TimesAreNearestRanks) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Times times = times_of(values);
  EXPECT_EQ(times.min, 1);
  EXPECT_EQ(times.p50, 50);
  EXPECT_EQ(times.p95, 95);
  EXPECT_EQ(times.p99, 99);
  EXPECT_EQ(times.max, 100);
  std::vector<double> one = {7};
  EXPECT_EQ(times_of(one).p99, 7);
}

std::vector<SweepRow> sample_rows() {
  std::vector<SweepRow> rows;
  for (const char* transport : {"mpi-alltoallv", "WINDOW"}) {
    for (const int64_t size : {int64_t{4096}, int64_t{1} << 20}) {
      SweepRow row;
      row.transport = transport;
      row.pair_bytes = size;
      row.traffic = make_traffic({}, 4, size);
      const double t = 3 * (1e-6 + static_cast<double>(size) / 1e9);
      row.time = {t, t, t * 1.1, t * 1.2, t * 1.3};
      rows.push_back(row);
    }
  }
  return rows;
}

TEST(SweepReport, BandwidthsAreThoseOfNcclTests) {
  std::vector<SweepRow> rows = sample_rows();
  const SweepRow& row = rows[1];
  const double size = 4 * 1048576.0;
  EXPECT_NEAR(row.algorithm_bandwidth(), size / row.time.p50 * 1e-9, 1e-12);
  EXPECT_NEAR(row.bus_bandwidth(), size / row.time.p50 * 1e-9 * 3 / 4, 1e-12);
  EXPECT_EQ(wire_bytes(row.traffic, std::vector<int>(4, 0)).within, 3 * 1048576) << "busbw is what crosses the links";
}

TEST(SweepReport, JsonKeepsItsSchema) {
  std::vector<SweepRow> rows = sample_rows();
  const std::vector<int> hosts(4, 0);
  predict(rows, hosts, std::nullopt);
  const json report = json::parse(sweep_json({"switchyard 0", hosts, 2, "", {"a note"}}, {}, rows));
  EXPECT_EQ(schema_violation("alltoall.schema.json", report), "");
  EXPECT_EQ(report["results"].size(), 4u);
  EXPECT_EQ(report["fit"].size(), 2u);
  EXPECT_NEAR(report["fit"][0]["alpha_us"].get<double>(), 1, 1e-6);
  EXPECT_NEAR(report["fit"][0]["beta_gb_per_s"].get<double>(), 1, 1e-6);
  EXPECT_NEAR(report["results"][0]["error_pct"].get<double>(), 0, 1e-6);
}

TEST(SweepReport, TheSchemaRefusesWhatIsMissingOrUnknown) {
  std::vector<SweepRow> rows = sample_rows();
  const json report = json::parse(sweep_json({"switchyard 0", {0, 0, 0, 0}, 2, "", {}}, {}, rows));
  json missing = report, unknown = report, type = report;
  missing["results"][2].erase("wrong");
  unknown["results"][1]["speed"] = 1;
  type["ranks"] = "four";
  EXPECT_THAT(schema_violation("alltoall.schema.json", missing), HasSubstr("results[2].wrong is missing"));
  EXPECT_THAT(schema_violation("alltoall.schema.json", unknown), HasSubstr("results[1].speed is unknown"));
  EXPECT_THAT(schema_violation("alltoall.schema.json", type), HasSubstr("ranks is no integer"));
}

TEST(SweepReport, TextHasTheLinesOfNcclTests) {
  std::vector<SweepRow> rows = sample_rows();
  const std::vector<int> hosts(4, 0);
  predict(rows, hosts, std::nullopt);
  rows[3].wrong = 5;
  const std::string text = sweep_text({"switchyard 0", hosts, 2, "", {}}, {}, rows);
  for (const char* part : {"algbw", "busbw", "#wrong", "# Out of bounds values : 5 FAILED\n", "# Avg bus bandwidth    : ", "# fit WINDOW", "within hosts"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  size_t rows_seen = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) rows_seen += text[at] == ' ';
  EXPECT_EQ(rows_seen, rows.size()) << "every other line is a comment:\n" << text;
}

TEST(SweepReport, CsvHasACellForEveryColumn) {
  const std::string text = sweep_csv(sample_rows(), std::vector<int>(4, 0));
  const auto cells = [](const std::string& line) { return std::count(line.begin(), line.end(), ','); };
  const std::string head = text.substr(0, text.find('\n'));
  size_t lines = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1, ++lines) EXPECT_EQ(cells(text.substr(at, text.find('\n', at) - at)), cells(head));
  EXPECT_EQ(lines, 5u);
}

}  // namespace
}  // namespace switchyard
