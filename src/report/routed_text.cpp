#include "src/report/routed_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/report/html.h"
#include "src/report/line_chart.h"

namespace switchyard {
namespace {

constexpr size_t kFavourites = 8;  // tokens named for an expert

using Choices = std::vector<RoutedChoice>;

// The choice that colours a token: the first that was kept, or else the first.
const RoutedChoice* leading(const Choices& choices) {
  const auto kept = std::find_if(choices.begin(), choices.end(), [](const RoutedChoice& choice) { return choice.kept; });
  return kept != choices.end() ? &*kept : choices.empty() ? nullptr : &choices.front();
}

std::string title_of(const Choices& choices) {
  std::string title;
  for (const RoutedChoice& choice : choices) {
    title += fmt::format("{}expert {}, gate {}{}", title.empty() ? "" : "; ", choice.expert, short_number(choice.gate, 3),
                         choice.kept ? "" : ", dropped: it was full");
  }
  return title.empty() ? "no expert" : title;
}

// Line ends are shown, and in a text made.
std::string visible(const std::string& token, bool in_text) {
  std::string html;
  for (const char c : token) {
    if (c == 0x0A) html += "<span class=\"end\">⏎</span>";
    if (c != 0x0A || in_text) html += c;
  }
  return html;
}

std::string token_html(const std::string& token, const Choices& choices, int& before) {
  if (token.empty()) {
    before = -1;
    return "\n";
  }
  const RoutedChoice* lead = leading(choices);
  const std::string text = visible(escape(token), true);
  if (lead == nullptr) {
    before = -1;
    return fmt::format("<span class=\"token\" title=\"no expert\">{}</span>", text);
  }
  const std::string number = lead->expert != before ? fmt::format("<sub>{}</sub>", lead->expert) : "";
  before = lead->expert;
  return fmt::format("<span class=\"token b{}{}\" title=\"{}\">{}{}</span>", static_cast<unsigned>(lead->expert) % kStyles, lead->kept ? "" : " dropped",
                     title_of(choices), number, text);
}

// What each expert got, and which tokens most often.
std::string experts_table(const RoutedText& text, const std::vector<Choices>& layer) {
  struct Expert {
    int64_t tokens = 0, dropped = 0;
    std::map<std::string, int64_t> names;
  };
  std::map<int, Expert> experts;
  for (size_t i = 0; i < std::min(layer.size(), text.tokens.size()); ++i) {
    for (const RoutedChoice& choice : layer[i]) {
      Expert& expert = experts[choice.expert];
      ++expert.tokens;
      expert.dropped += choice.kept ? 0 : 1;
      ++expert.names[text.tokens[i]];
    }
  }
  std::string html =
      "<div class=\"scroll\"><table class=\"experts\"><thead><tr><th>expert</th><th>tokens</th><th>dropped</th><th>most often</th></tr></thead><tbody>";
  for (const auto& [number, expert] : experts) {
    std::vector<std::pair<std::string, int64_t>> names(expert.names.begin(), expert.names.end());
    std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    names.resize(std::min(names.size(), kFavourites));
    std::string most;
    for (const auto& [name, count] : names)
      most += fmt::format(" <span class=\"token b{}\">{}</span>&#215;{}", static_cast<unsigned>(number) % kStyles, visible(escape(name), false), count);
    html += fmt::format("<tr><th>{}</th><td>{}</td><td>{}</td><td class=\"words\">{}</td></tr>", number, expert.tokens, expert.dropped, most);
  }
  return html + "</tbody></table></div>";
}

std::string layer_html(const RoutedText& text, size_t number) {
  const std::vector<Choices>& layer = text.layers[number];
  const size_t separators = static_cast<size_t>(std::count(text.tokens.begin(), text.tokens.end(), ""));
  size_t dropped = 0, used = 0;
  std::vector<bool> seen(static_cast<size_t>(std::max(0, text.experts)), false);
  for (const Choices& choices : layer) {
    const RoutedChoice* lead = leading(choices);
    dropped += lead != nullptr && !lead->kept ? 1 : 0;
    for (const RoutedChoice& choice : choices) {
      if (choice.expert < 0 || choice.expert >= text.experts || seen[static_cast<size_t>(choice.expert)]) continue;
      seen[static_cast<size_t>(choice.expert)] = true;
      ++used;
    }
  }
  std::string html = fmt::format(
      "<details class=\"routed\"{}><summary><b>MoE layer {}</b> <span class=\"unit\">{} of {} experts used, {} of {} tokens dropped</span></summary>",
      number < 2 ? " open" : "", number, used, text.experts, dropped, layer.size() - std::min(layer.size(), separators));
  if (used == 0) return html + "<p class=\"none\">No token was sent to an expert: the experts of this layer work on mixtures of all tokens.</p></details>";
  html += "<p class=\"text\">";
  int before = -1;
  for (size_t i = 0; i < std::min(layer.size(), text.tokens.size()); ++i) html += token_html(text.tokens[i], layer[i], before);
  return html + "</p>" + experts_table(text, layer) + "</details>";
}

}  // namespace

std::string to_html(const RoutedText& text) {
  std::string html = fmt::format(
      "<p class=\"lead\">{} of run {}, sent through {} at evaluation. The small number is the expert; it stands where the expert changes. A token that found "
      "its "
      "expert full is struck out. Experts whose numbers differ by a multiple of {} share a colour.</p>",
      escape(text.source), escape(text.run), escape(text.checkpoint), kStyles);
  for (size_t layer = 0; layer < text.layers.size(); ++layer) html += layer_html(text, layer);
  return html;
}

}  // namespace switchyard
