#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "src/report/heat_map.h"
#include "src/report/html.h"
#include "src/report/line_chart.h"
#include "src/report/scale.h"
#include "src/report/share_bars.h"
#include "tests/report/page_helper.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Html, NothingOfATextIsMarkup) {
  EXPECT_EQ(escape("<a href=\"x\" title='y'>&amp;"), "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;amp;");
  EXPECT_EQ(escape("Gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80"), "Gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80");
}

TEST(Html, WhatIsNotUtf8AndControlCharactersAreReplaced) {
  const std::string replacement = "\xEF\xBF\xBD";
  for (const std::string bad : {"\x80", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\x01", "\x7F", "\x1B"}) {
    EXPECT_THAT(escape("a" + bad + "b"), ::testing::StartsWith("a" + replacement)) << "byte " << static_cast<int>(static_cast<unsigned char>(bad[0]));
    EXPECT_THAT(escape("a" + bad + "b"), ::testing::EndsWith("b"));
  }
}

TEST(Html, NumbersAreShort) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(4.18498), "4.185");
  EXPECT_EQ(short_number(1300), "1,300");
  EXPECT_EQ(short_number(5324669), "5,324,669");
  EXPECT_EQ(short_number(5.32e9), "5.32e9");
  EXPECT_EQ(short_number(-1300), "-1,300");
  EXPECT_EQ(short_number(0.0002), "2e-4");
  EXPECT_EQ(short_number(kNone), "–");
  EXPECT_EQ(percent_text(0.0004), "< 0.1 %");
  EXPECT_EQ(percent_text(0.125), "12.5 %");
  EXPECT_EQ(flops_text(1.234e15), "1.234 PFLOP");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
}

TEST(Scale, TicksAreRoundAndInside) {
  EXPECT_THAT(ticks(make_scale(0, 1300, 0, 1, false), 5), ElementsAre(0, 500, 1000));
  EXPECT_THAT(ticks(make_scale(3.9, 5.2, 0, 1, false), 5), ElementsAre(4, 4.5, 5));
  EXPECT_THAT(ticks(make_scale(0.01, 100, 0, 1, true), 5), ElementsAre(0.01, 0.1, 1, 10, 100));
}

TEST(Scale, AnyRangeMakesAScale) {
  for (const auto& [low, high] : std::vector<std::pair<double, double>>{{1, 1}, {0, 0}, {2, 1}, {kNone, 1}, {-1e300, 1e300}, {5e-324, 5e-324}}) {
    for (const bool logarithmic : {false, true}) {
      const Scale scale = make_scale(low, high, 10, 20, logarithmic);
      EXPECT_LT(scale.low, scale.high) << low << " " << high;
      EXPECT_LT(ticks(scale, 5).size(), 120u);
    }
  }
}

LineChart chart_of(std::vector<double> y) {
  LineChart chart;
  chart.title = "Loss";
  Series series;
  series.name = "a";
  for (size_t i = 0; i < y.size(); ++i) series.x.push_back(static_cast<double>(i));
  series.y = std::move(y);
  chart.series = {series};
  return chart;
}

TEST(LineChart, EveryFiniteValueIsAPoint) {
  EXPECT_THAT(points_of_figure(to_html(chart_of({3, 2, 1})), "Loss"), ElementsAre(3));
  EXPECT_THAT(points_of_figure(to_html(chart_of({3, kNone, 1, 2})), "Loss"), ElementsAre(3));
  for (const bool smooth : {false, true}) {
    LineChart chart = chart_of(std::vector<double>(500, 1));
    chart.smooth = smooth, chart.skip_start = true, chart.log_if_wide = true;
    EXPECT_THAT(points_of_figure(to_html(chart), "Loss"), ElementsAre(500));
  }
}

TEST(LineChart, AGapIsNotBridged) {
  const std::string html = to_html(chart_of({3, 2, kNone, 1, 2}));
  EXPECT_EQ(occurrences(pieces(html, "<path class=\"line\" d=\"", "\"").at(0), "M"), 2u);
}

TEST(LineChart, ALongLineKeepsItsSpikes) {
  std::vector<double> y(100000, 1);
  y[54321] = 9;
  const std::string html = to_html(chart_of(y));
  const size_t points = points_of_figure(html, "Loss").at(0);
  EXPECT_LE(points, kMaxPoints);
  EXPECT_GE(points, kMaxPoints / 2);
  EXPECT_THAT(html, HasSubstr("highest 9, 100000 points"));
  EXPECT_THAT(pieces(html, "<path class=\"line\" d=\"", "\"").at(0), HasSubstr(" 17.")) << "the spike is near the top of the frame";
}

TEST(LineChart, WithoutAValueItSaysSo) {
  EXPECT_THAT(to_html(chart_of({})), HasSubstr("no finite values"));
  EXPECT_THAT(to_html(chart_of({kNone, kNone})), HasSubstr("no finite values"));
  EXPECT_THAT(to_html(chart_of({kNone, std::numeric_limits<double>::infinity()})), HasSubstr("no finite values"));
}

TEST(LineChart, NoPlaceIsNotANumber) {
  for (const std::vector<double>& y : std::vector<std::vector<double>>{{0, 0}, {1e308, -1e308}, {1}, {-5, 0, 1e-300}, {1e-300, 1e300}}) {
    LineChart chart = chart_of(y);
    chart.log_if_wide = chart.from_zero = true;
    const std::string html = to_html(chart);
    EXPECT_THAT(html, Not(HasSubstr("nan")));
    EXPECT_THAT(html, Not(HasSubstr("inf")));
    EXPECT_EQ(unbalanced(html), "");
  }
}

TEST(LineChart, ALineOfZerosLiesOnTheAxis) {
  LineChart chart = chart_of({0, 0});
  chart.from_zero = true;
  const std::string html = to_html(chart);
  EXPECT_THAT(html, Not(HasSubstr(">-")));
  EXPECT_THAT(html, HasSubstr("d=\"M46 180L350 180\""));
}

TEST(LineChart, WhatTheFrameCutsOffIsSaid) {
  std::vector<double> y(100, 2);
  y[0] = 9;
  LineChart chart = chart_of(y);
  EXPECT_THAT(to_html(chart), Not(HasSubstr("cut off")));
  chart.skip_start = true;
  EXPECT_THAT(to_html(chart), HasSubstr("cut off"));
}

TEST(LineChart, HostileNamesAreText) {
  LineChart chart = chart_of({1, 2});
  chart.title = "</figure><script>", chart.series[0].name = "\"><img src=x>", chart.unit = "<i>";
  const std::string html = to_html(chart);
  EXPECT_THAT(html, Not(HasSubstr("<script>")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_EQ(unbalanced(html), "");
}

TEST(HeatMap, LevelsAreMultiplesOfTheMean) {
  EXPECT_EQ(heat_level(0), 0);
  EXPECT_EQ(heat_level(0.01), 1);
  EXPECT_EQ(heat_level(0.25), 1);
  EXPECT_EQ(heat_level(0.3), 2);
  EXPECT_EQ(heat_level(0.7), 3);
  EXPECT_EQ(heat_level(1), 4);
  EXPECT_EQ(heat_level(1.3), 5);
  EXPECT_EQ(heat_level(3), 6);
  EXPECT_EQ(heat_level(100), 7);
}

size_t cells(const std::string& html) {
  size_t count = 0;
  for (int level = 0; level < 8; ++level) {
    for (const std::string& path : pieces(html, "<path class=\"l" + std::to_string(level) + "\" d=\"", "\"")) count += occurrences(path, "M");
  }
  return count;
}

TEST(HeatMap, EveryExpertAndStepIsACellOfItsLevel) {
  HeatMap map{"load", {1, 2, 3}, {{0.5, 0.5, 0, 0}, {0.25, 0.25, 0.25, 0.25}, {1, 0, 0, 0}}};
  const std::string html = to_html(map);
  EXPECT_EQ(cells(html), 12u);
  EXPECT_EQ(occurrences(pieces(html, "<path class=\"l0\" d=\"", "\"").at(0), "M"), 5u) << "cells without a token";
  EXPECT_EQ(occurrences(pieces(html, "<path class=\"l4\" d=\"", "\"").at(0), "M"), 4u) << "balanced cells";
  EXPECT_THAT(html, HasSubstr("<title>expert 0: 2.33 times the mean load on average, 1.00 to 4.00, 4.00 at the end</title>"));
  EXPECT_EQ(occurrences(heat_legend(), "<li>"), 8u) << "every colour has a meaning in words";
}

TEST(HeatMap, ManyStepsAreAveragedAndManyExpertsJoined) {
  HeatMap map{"load", {}, {}};
  for (int step = 0; step < 1000; ++step) {
    map.steps.push_back(step);
    map.load.emplace_back(200, 0.005);
  }
  const std::string html = to_html(map);
  EXPECT_EQ(cells(html), kMaxColumns * 50) << "200 experts, 4 in a row";
  EXPECT_THAT(html, HasSubstr("busiest of experts 196 to 199"));
}

TEST(HeatMap, MissingLoadsAreEmptyPlaces) {
  EXPECT_THAT(to_html(HeatMap{"load", {}, {}}), HasSubstr("no loads"));
  EXPECT_THAT(to_html(HeatMap{"load", {1, 2}, {{}, {}}}), HasSubstr("no loads"));
  EXPECT_EQ(cells(to_html(HeatMap{"load", {1, 2}, {{0.5, 0.5}, {0.5}}})), 2u);
  EXPECT_EQ(cells(to_html(HeatMap{"load", {1, 2}, {{0.5, kNone}, {0.5, 0.5}}})), 3u);
}

TEST(ShareBars, PartsFillTheWidthOfTheLongestBar) {
  const std::string html = to_html(ShareBars{"time", "seconds", {"a", "b"}, {{"slow", {3, 1}}, {"fast", {1, 1}}, {"old", {kNone, 2}}}});
  EXPECT_EQ(occurrences(html, "<rect class=\"part"), 5u);
  EXPECT_THAT(html, HasSubstr("x=\"0.00%\" y=\"0\" width=\"75.00%\""));
  EXPECT_THAT(html, HasSubstr("<title>a: 3 seconds, 75.0 %</title>"));
  EXPECT_THAT(html, HasSubstr("<td>–</td>")) << "what is not known";
  EXPECT_EQ(unbalanced(html), "");
  EXPECT_THAT(to_html(ShareBars{"time", "seconds", {"a"}, {{"x", {kNone}}}}), HasSubstr("no finite values"));
}

}  // namespace
}  // namespace switchyard
