// A text whose tokens are coloured by the experts that they were sent to, as a pure function to HTML.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

// One expert that a token asked for.
struct RoutedChoice {
  int expert = 0;
  double gate = 0;   // what multiplies the expert's output
  bool kept = true;  // false: the expert was full
};

struct RoutedText {
  std::string run, checkpoint, source;  // "the first 256 tokens of the held-out text"
  int experts = 0;
  std::vector<std::string> tokens;                             // as people see them; a line end breaks the line, and an empty one separates texts
  std::vector<std::vector<std::vector<RoutedChoice>>> layers;  // [MoE layer][token]: choices, most important first; none: padding
};

// Each token of each layer is a <span class="token"> in the colour of its first expert, with the expert's number where it
// changes, and all its choices in the title. With each layer a table of the tokens that each expert got most.
std::string to_html(const RoutedText& text);

}  // namespace switchyard
