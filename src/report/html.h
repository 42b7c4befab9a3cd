// Text for a page: escaping, and numbers as people read them.
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

// Safe in HTML and SVG, in text and in quoted attributes. What is not UTF-8, and control characters but for tab and line
// end, become U+FFFD.
std::string escape(std::string_view text);

// "0", "0.00123", "4.185", "1,300", "5.32e9"; "–" for what is not finite. At most `digits` significant digits where the number
// is below 1,000.
std::string short_number(double value, int digits = 4);
// "12.5 %", "< 0.1 %", "0 %"
std::string percent_text(double fraction);
// "40 s", "3 min 20 s", "2 h 5 min"
std::string duration_text(double seconds);
// "1.2e+15" as "1.2 PFLOP"
std::string flops_text(double flops);
// A coordinate of a drawing: one decimal, none where it is 0.
std::string coordinate(double value);

}  // namespace switchyard
