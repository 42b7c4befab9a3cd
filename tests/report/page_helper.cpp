#include "tests/report/page_helper.h"

#include <cctype>
#include <set>

namespace switchyard {

std::string unbalanced(const std::string& page) {
  static const std::set<std::string> kAlone = {"meta", "link", "input", "br", "!DOCTYPE"};
  std::vector<std::string> open;
  for (size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at)) {
    const size_t end = page.find('>', at);
    if (end == std::string::npos) return "a tag has no end: " + page.substr(at, 40);
    const std::string tag = page.substr(at + 1, end - at - 1);
    at = end;
    const bool closing = tag.starts_with("/");
    std::string name = tag.substr(closing ? 1 : 0);
    size_t length = 0;
    while (length < name.size() && (std::isalnum(static_cast<unsigned char>(name[length])) != 0 || name[length] == '!')) ++length;
    name.resize(length);
    if (kAlone.contains(name) || tag.ends_with("/")) continue;
    if (!closing) {
      open.push_back(name);
      if (name == "style" || name == "script") at = page.find("</" + name, at);  // what stands in it is no HTML
    } else if (open.empty() || open.back() != name) {
      return "</" + name + "> closes " + (open.empty() ? "nothing" : "<" + open.back() + ">") + " near " + page.substr(at > 60 ? at - 60 : 0, 80);
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

}  // namespace switchyard
