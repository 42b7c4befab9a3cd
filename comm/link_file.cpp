#include "comm/link_file.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "comm/agree.h"

namespace switchyard {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "switchyard link 1";
constexpr size_t kMostBytes = 64 << 10;
constexpr int kMostRanksPerHost = 1 << 20;

struct Range {
  double least, most;
};
constexpr Range kAlpha{0, 100};
constexpr Range kBytesPerSecond{1, 1e15};

// A key as it may be shown in a message.
std::string shown(const std::string& key) {
  std::string text;
  for (const char c : key.substr(0, 40)) text += c >= ' ' && c <= '~' ? c : '?';
  return text;
}

class Reader {
 public:
  explicit Reader(std::string_view origin) : origin_(origin) {}

  LinkFile read(std::string_view text) {
    const Json file = parse(text);
    only_fields(file, "", {"format", "within_host", "between_hosts", "ranks_per_host"});
    const Json& format = field(file, "", "format");
    if (!format.is_string() || format.get_ref<const std::string&>() != kFormat) fail(fmt::format("format must be \"{}\"", kFormat));
    LinkFile result;
    result.model.within_host = link(file, "within_host");
    result.model.between_hosts = link(file, "between_hosts");
    if (file.contains("ranks_per_host")) {
      const Json& ranks = file.at("ranks_per_host");
      if (!ranks.is_number_integer() || ranks < 0 || ranks > kMostRanksPerHost)
        fail(fmt::format("ranks_per_host must be a whole number from 0 to {}", kMostRanksPerHost));
      result.ranks_per_host = ranks.get<int>();
    }
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::kData, fmt::format("link file {}: {}; write one with switchyard profile alltoall", origin_, what));
  }

  // The library's parser keeps the last of two fields of one name; here they are an error.
  Json parse(std::string_view text) const {
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
      if (event == Json::parse_event_t::object_start) keys.emplace_back();
      if (event == Json::parse_event_t::object_end) keys.pop_back();
      if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
        fail(fmt::format("{} is given twice", shown(parsed.get<std::string>())));
      return true;
    };
    try {
      return Json::parse(text, watch);
    } catch (const Json::parse_error& error) {
      fail(fmt::format("it is not JSON (byte {})", error.byte));
    } catch (const Json::exception&) {
      fail("a number in it is beyond every range");
    }
  }

  void only_fields(const Json& object, const std::string& place, const std::set<std::string>& known) const {
    if (!object.is_object()) fail(fmt::format("{} must be an object in braces", place.empty() ? "its content" : place));
    for (const auto& [key, value] : object.items()) {
      if (!known.contains(key)) fail(fmt::format("{}{} is not a known field", place.empty() ? "" : place + ".", shown(key)));
    }
  }

  const Json& field(const Json& object, const std::string& place, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) fail(fmt::format("{}{} is missing", place.empty() ? "" : place + ".", key));
    return *found;
  }

  double number(const Json& object, const std::string& place, const char* key, Range range) const {
    const Json& value = field(object, place, key);
    const double found = value.is_number() ? value.get<double>() : std::nan("");
    if (!(found >= range.least && found <= range.most)) fail(fmt::format("{}.{} must be a number from {} to {:g}", place, key, range.least, range.most));
    return found;
  }

  Link link(const Json& file, const char* key) const {
    const Json& object = field(file, "", key);
    only_fields(object, key, {"alpha_seconds", "bytes_per_second"});
    return {number(object, key, "alpha_seconds", kAlpha), number(object, key, "bytes_per_second", kBytesPerSecond)};
  }

  std::string_view origin_;
};

[[noreturn]] void fail_on_file(const std::string& path, const char* what) {
  throw Error(ExitCode::kInputOutput, fmt::format("link file {} could not be {}: {}", path, what, std::strerror(errno)));
}

}  // namespace

LinkFile parse_link_file(std::string_view text, std::string_view origin) { return Reader(origin).read(text); }

std::string link_file_text(const LinkFile& file) {
  const auto link = [](const Link& l) { return fmt::format("{{\"alpha_seconds\": {}, \"bytes_per_second\": {}}}", l.alpha, l.bytes_per_second); };
  return fmt::format("{{\"format\": \"{}\",\n \"within_host\": {},\n \"between_hosts\": {},\n \"ranks_per_host\": {}}}\n", kFormat,
                     link(file.model.within_host), link(file.model.between_hosts), file.ranks_per_host);
}

LinkFile read_link_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_on_file(path, "opened");
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) fail_on_file(path, "read");
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMostBytes)
    throw Error(ExitCode::kInputOutput, fmt::format("link file {} is longer than {} KiB: it is something else", path, kMostBytes >> 10));
  return parse_link_file(text, path);
}

void write_link_file(const std::string& path, const LinkFile& file) {
  const std::string beside = path + ".new";
  errno = 0;
  {
    std::ofstream out(beside, std::ios::binary);
    out << link_file_text(file);
    out.close();
    if (!out) fail_on_file(path, "written");
  }
  if (std::rename(beside.c_str(), path.c_str()) != 0) fail_on_file(path, "written");
}

LinkFile shared_link_file(Communicator& comm, const std::string& path) {
  LinkFile file;
  agree_on(comm, {"emulated link", -1}, [&] {
    if (comm.rank() == 0) file = read_link_file(path);
  });
  std::array<double, 5> numbers = {file.model.within_host.alpha, file.model.within_host.bytes_per_second, file.model.between_hosts.alpha,
                                   file.model.between_hosts.bytes_per_second, static_cast<double>(file.ranks_per_host)};
  comm.broadcast({"emulated link", -1}, Tensor(numbers.data(), Dtype::kF64, {5}), 0);
  return {{{numbers[0], numbers[1]}, {numbers[2], numbers[3]}}, static_cast<int>(numbers[4])};
}

}  // namespace switchyard
