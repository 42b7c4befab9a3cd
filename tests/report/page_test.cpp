#include "src/report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "src/report/figures.h"
#include "tests/report/page_helper.h"
#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

RunRecord run_of(const std::string& name, int64_t lines, size_t layers) {
  RunRecord run;
  run.name = name;
  run.path = "runs/" + name;
  run.planned_steps = 10 * lines;
  for (int64_t i = 1; i <= lines; ++i) {
    const double x = static_cast<double>(i);
    StepMetrics step;
    step.step = 10 * i;
    step.loss = 4 / x + 1;
    step.tokens = 1000 * i;
    step.tokens_per_second = 500 + x;
    step.step_seconds = 2;
    step.gradient_norm = 1 / x;
    step.learning_rate = 1e-3;
    step.balance_loss = 0.02;
    step.dropped_fraction = 0.1;
    step.all_to_all_seconds = 0.5, step.gradient_sum_seconds = 0.25;
    step.seconds = 2 * x, step.flops = 1e12 * x;
    step.compute_seconds = 1, step.publish_seconds = 0.1, step.control_seconds = 0.1, step.input_seconds = 0.05;
    step.layers.assign(layers, {{0.5, 0.5, 0}, 0.1, 0.5, 0.7});
    run.steps.push_back(step);
  }
  for (int64_t i = 2; i <= lines; i += 2) {
    const double x = static_cast<double>(i);
    run.heldout.push_back(
        {.step = 10 * i, .tokens = 1000 * i, .seconds = 2 * x, .flops = 1e12 * x, .loss = 5 / x + 1, .accuracy = x / 100, .bits_per_byte = 2 / x});
  }
  run.config = {{"seed", "1"}, {"model.moe.experts", layers > 0 ? "3" : "1"}};
  return run;
}

std::string page_of(std::vector<RunRecord> runs) { return report_page({.runs = std::move(runs), .text = {}, .text_note = ""}); }

TEST(Page, EverySeriesHasAPointForEachLineOfItsRun) {
  const std::string page = page_of({run_of("sparse", 120, 2), run_of("dense", 60, 0)});
  for (const char* title : {"Gradient norm", "Learning rate", "Speed", "Share of the all-to-all"}) {
    EXPECT_THAT(points_of_figure(page, title), ElementsAre(120, 60)) << title;
  }
  for (const char* title : {"Dropped tokens", "Balance loss"})
    EXPECT_THAT(points_of_figure(page, title), ElementsAre(120, 0)) << title << ", of the sparse run";
  // Over steps, FLOPs and seconds.
  EXPECT_THAT(points_of_figure(page, "Train loss"), ElementsAre(120, 60, 120, 60, 120, 60));
  for (const char* title : {"Held-out loss", "Held-out bits per byte", "Held-out accuracy"}) {
    EXPECT_THAT(points_of_figure(page, title), ElementsAre(60, 30, 60, 30, 60, 30)) << title;
  }
  for (const char* title : {"Router entropy", "Router confidence", "Dead experts"}) {
    EXPECT_THAT(points_of_figure(page, title), ElementsAre(120, 120)) << title << ", a line for each layer";
  }
  EXPECT_THAT(points_of_figure(page, "Tokens that no expert saw"), ElementsAre(120, 120, 120)) << "two layers and padding";
}

TEST(Page, EveryMoeLayerHasAHeatMapOfItsSteps) {
  const std::string page = page_of({run_of("sparse", 50, 2)});
  size_t maps = 0;
  for (const std::string& figure : pieces(page, "<figure", "</figure>")) {
    if (figure.find("<b>Expert load, MoE layer") == std::string::npos) continue;
    ++maps;
    size_t cells = 0;
    for (int level = 0; level < 8; ++level) {
      for (const std::string& path : pieces(figure, "<path class=\"l" + std::to_string(level) + "\" d=\"", "\"")) cells += occurrences(path, "M");
    }
    EXPECT_EQ(cells, 50u * 3);
  }
  EXPECT_EQ(maps, 2u);
  EXPECT_THAT(page, HasSubstr("1 of 3: 2")) << "the expert that no token chose is named";
}

TEST(Page, ItNeedsNothingElse) {
  const std::string page = page_of({run_of("a", 30, 1), run_of("b", 30, 1)});
  EXPECT_THAT(page, Not(HasSubstr("http:")));
  EXPECT_THAT(page, Not(HasSubstr("https:")));
  EXPECT_THAT(page, Not(HasSubstr("url(")));
  EXPECT_THAT(page, Not(HasSubstr("@import")));
  EXPECT_THAT(page, Not(HasSubstr(" src=")));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(page, HasSubstr("@media print"));
  EXPECT_EQ(unbalanced(page), "");
}

TEST(Page, PhasesFillTheStepAndNameTheShareOfTheAllToAll) {
  const std::string page = page_of({run_of("a", 10, 1)});
  EXPECT_EQ(occurrences(page, "<rect class=\"part"), 6u);
  EXPECT_THAT(page, HasSubstr("<title>all-to-all: 500 milliseconds, 25.0 %</title>"));
}

TEST(Page, DifferencesOfConfigurationAreTheFieldsThatDiffer) {
  std::vector<RunRecord> runs = {run_of("a", 3, 1), run_of("b", 3, 0)};
  runs[1].config.emplace_back("new.field", "7");
  const std::string page = page_of(runs);
  const std::string table = pieces(page, "<h2>Differences of configuration</h2>", "</table>").at(0);
  EXPECT_THAT(table, HasSubstr("<tr><th><code>model.moe.experts</code></th><td>3</td><td>1</td></tr>"));
  EXPECT_THAT(table, HasSubstr("<tr><th><code>new.field</code></th><td>–</td><td>7</td></tr>"));
  EXPECT_THAT(table, Not(HasSubstr("seed")));
  EXPECT_THAT(page_of({run_of("a", 3, 1), run_of("b", 3, 1)}), HasSubstr("the runs differ in nothing"));
}

TEST(Page, AlarmsAndNotesAreShown) {
  RunRecord run = run_of("a", 3, 1);
  EXPECT_THAT(page_of({run}), Not(HasSubstr("<h2>Alarms</h2>")));
  run.alarms = {{.kind = "load", .step = 20, .layer = 0, .experts = {1}, .value = 5, .sentence = "expert 1 is busy"}};
  run.notes = {"the last line is incomplete"};
  const std::string page = page_of({run});
  EXPECT_THAT(page, HasSubstr("<li>expert 1 is busy</li>"));
  EXPECT_THAT(page, HasSubstr("the last line is incomplete"));
}

TEST(Page, HostileTextStaysText) {
  const std::string bad = "</style><script>alert(1)</script>\"'<b>\xFF";
  RunRecord run = run_of(bad, 70, 1);
  run.path = bad + "/x";
  run.alarms = {{.kind = bad, .sentence = bad}};
  run.notes = {bad};
  run.config = {{bad, bad}};
  RunRecord other = run_of(bad, 70, 1);
  RoutedText text;
  text.run = text.checkpoint = text.source = bad;
  text.experts = 2;
  text.tokens = {bad, "\n"};
  text.layers = {{{{0, 0.5, true}}, {}}};
  const std::string page = report_page({.runs = {run, other}, .text = text, .text_note = bad});
  EXPECT_EQ(occurrences(page, "<script>"), 1u) << "the page's own";
  EXPECT_EQ(occurrences(page, "</style>"), 1u);
  EXPECT_THAT(page, Not(HasSubstr("\xFF")));
  EXPECT_EQ(unbalanced(page), "");
}

TEST(Page, RunsWithoutStepsOrFieldsGiveASensiblePage) {
  RunRecord empty;
  empty.name = empty.path = "empty";
  RunRecord bare = run_of("bare", 5, 2);
  for (StepMetrics& step : bare.steps) {
    step.loss = step.gradient_norm = step.step_seconds = step.seconds = step.flops = step.compute_seconds = step.all_to_all_seconds = kNone;
    step.dropped_fraction = kNone;
    step.layers[1] = {{}, kNone, kNone, kNone};
  }
  bare.heldout.clear();
  bare.config.clear();
  for (const std::vector<RunRecord>& runs :
       std::vector<std::vector<RunRecord>>{{empty}, {bare}, {empty, bare}, {run_of("a", 1, 1)}, {run_of("a", 2, 1), empty}}) {
    const std::string page = page_of(runs);
    EXPECT_EQ(unbalanced(page), "");
    EXPECT_THAT(pieces(page, " d=\"", "\""), Each(Not(HasSubstr("nan")))) << "a place that is no number";
    EXPECT_THAT(page, Not(HasSubstr(">nan<")));
    EXPECT_THAT(page, HasSubstr("<h2>Key figures</h2>"));
  }
}

TEST(Page, RunsOfOneNameAreToldApartByTheirPaths) {
  RunRecord a = run_of("lm", 3, 0), b = run_of("lm", 3, 0);
  a.path = "x/lm", b.path = "y/lm";
  const std::string page = page_of({a, b});
  EXPECT_THAT(page, HasSubstr("<th>x/lm</th>"));
  EXPECT_THAT(page, HasSubstr("<th>y/lm</th>"));
}

TEST(Page, StoppedAndRunningRunsSaySo) {
  RunRecord run = run_of("a", 3, 0);
  EXPECT_THAT(page_of({run}), HasSubstr("<dd>30 of 30</dd>"));
  run.planned_steps = 100;
  EXPECT_THAT(page_of({run}), HasSubstr("<dd>30 of 100, stopped</dd>"));
  run.running = true;
  EXPECT_THAT(page_of({run}), HasSubstr("<dd>30 of 100, running</dd>"));
}

TEST(Page, ATextsTokensHaveTheirExpertInColourNumberAndTitle) {
  RoutedText text;
  text.run = "a", text.checkpoint = "step-10", text.source = "The first 5 tokens";
  text.experts = 12;
  text.tokens = {"the", " cat", "", " sat", "\n", "<pad>"};
  text.layers = {{{{9, 0.75, true}}, {{9, 0.5, true}}, {}, {{1, 0.25, false}, {3, 0.2, true}}, {{1, 0.9, false}}, {}}};
  const std::string page = report_page({.runs = {run_of("a", 3, 1)}, .text = text, .text_note = ""});
  const std::string shown = pieces(page, "<p class=\"text\">", "</p>").at(0);
  EXPECT_EQ(occurrences(shown, "<span class=\"token"), 5u);
  EXPECT_THAT(shown, HasSubstr("<span class=\"token b1\" title=\"expert 9, gate 0.75\"><sub>9</sub>the</span>"));
  EXPECT_THAT(shown, HasSubstr("<span class=\"token b1\" title=\"expert 9, gate 0.5\"> cat</span>")) << "the number stands where it changes";
  EXPECT_THAT(shown, HasSubstr("<span class=\"token b3\" title=\"expert 1, gate 0.25, dropped: it was full; expert 3, gate 0.2\">"));
  EXPECT_THAT(shown, HasSubstr("<span class=\"token b1 dropped\""));
  EXPECT_THAT(shown, HasSubstr("title=\"no expert\">&lt;pad&gt;</span>"));
  EXPECT_THAT(page, HasSubstr("3 of 12 experts used, 1 of 5 tokens dropped"));
}

TEST(Page, ALayerThatMixesTokensSendsNone) {
  RoutedText text;
  text.experts = 2;
  text.tokens = {"a"};
  text.layers = {{{}}};
  EXPECT_THAT(to_html(text), HasSubstr("work on mixtures of all tokens"));
  EXPECT_EQ(unbalanced(to_html(text)), "");
}

TEST(Figures, TheLastTenthIsOneLineAtLeast) {
  RunRecord run = run_of("a", 3, 1);
  run.steps[2].layers[0] = {{0, 0.25, 0.75}, 0.2, 0, kNone};
  const LayerFigures figures = layer_figures(run, 0);
  EXPECT_THAT(figures.unused, ElementsAre(0));
  EXPECT_EQ(figures.busiest, 2u);
  EXPECT_DOUBLE_EQ(figures.busiest_load, 2.25);
  EXPECT_EQ(figures.idlest, 0u);
  EXPECT_EQ(figures.idlest_load, 0);
  EXPECT_EQ(figures.dropped, 0.2);
  EXPECT_TRUE(std::isnan(figures.confidence));
  EXPECT_THAT(layer_figures(RunRecord{}, 0).unused, IsEmpty());
}

TEST(Figures, PaddingIsAShareOfAllPlaces) {
  StepMetrics step;
  step.tokens_per_second = 150, step.step_seconds = 2, step.padding_tokens = 100;
  EXPECT_DOUBLE_EQ(padding_fraction(step), 0.25);
  step.padding_tokens = 0;
  EXPECT_EQ(padding_fraction(step), 0);
}

}  // namespace
}  // namespace switchyard
