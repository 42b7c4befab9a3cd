// switchyard profile alltoall: exchanges of growing sizes on every transport, checked, with what a model of the links
// says of them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "comm/agree.h"
#include "comm/link_file.h"
#include "comm/make.h"
#include "src/cli/app.h"
#include "src/cli/profile.h"
#include "src/data/file.h"
#include "src/profile/sweep_report.h"

namespace switchyard {
namespace {

constexpr Call kCall{"profile", -1};
constexpr const char* kAlltoallv = "mpi-alltoallv";
constexpr int64_t kLargestMatrixFile = int64_t{64} << 20;
constexpr std::array<const char*, 4> kTransports = {"MPI", "MPI_PAIRWISE", "WINDOW", "TWO_LEVEL"};
constexpr int64_t kSmallBox = 64;  // of the outboxes that the sweep does not use

struct Arguments {
  std::string sizes, pattern = "uniform", pairs, fit, link, emulate;
  std::vector<std::string> transports = {"all"};
  int64_t factor = 4;
  int iterations = 100, warm_up = 10, check = 1;
  bool json = false, csv = false;
};

// What is measured, and what keeps it alive.
struct Measured {
  std::vector<std::unique_ptr<Communicator>> communicators;
  std::vector<std::unique_ptr<Exchanger>> exchangers;
  std::vector<Subject> subjects;
  std::vector<std::string> notes;
};

std::vector<Pairs> sections_of(const Arguments& arguments, const std::vector<int>& hosts) {
  const int host_count = *std::max_element(hosts.begin(), hosts.end()) + 1;
  const bool shared = host_count < static_cast<int>(hosts.size());  // some host has several ranks
  for (const Pairs pairs : {Pairs::kAll, Pairs::kWithinHosts, Pairs::kBetweenHosts}) {
    if (arguments.pairs != name(pairs)) continue;
    if (pairs == Pairs::kBetweenHosts && host_count == 1)
      throw Error(ExitCode::kUsage, "--pairs between needs several hosts, but all ranks are on one; leave it out");
    return {pairs};
  }
  if (!arguments.pairs.empty()) throw Error(ExitCode::kUsage, fmt::format("--pairs must be all, within or between but is '{}'", arguments.pairs));
  if (host_count > 1 && shared) return {Pairs::kAll, Pairs::kWithinHosts, Pairs::kBetweenHosts};
  return {Pairs::kAll};
}

std::string read_matrix(const std::string& path) {
  const InputFile file(path, "matrix file");
  if (file.size() > kLargestMatrixFile)
    throw Error(ExitCode::kData, fmt::format("{} is longer than {} MiB: it is no matrix of ranks", path, kLargestMatrixFile >> 20));
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, text.data(), file.size());
  return text;
}

// Rank 0 reads the matrix of a pattern; every rank has it.
void share_matrix(Communicator& control, Pattern& pattern) {
  if (pattern.kind != PatternKind::kMatrix) return;
  std::string text;
  agree_on(control, kCall, [&] {
    if (control.rank() != 0) return;
    text = read_matrix(pattern.file);
    parse_matrix(text, control.size(), pattern.file);
  });
  pattern.matrix = parse_matrix(shared_text(control, text), control.size(), pattern.file);
}

SweepOptions sweep_options(Communicator& control, const Arguments& arguments, const std::vector<int>& hosts) {
  SweepOptions options;
  agree_on(control, kCall, [&] {
    if (arguments.json && arguments.csv) throw Error(ExitCode::kUsage, "--json and --csv exclude each other; choose one");
    options.pattern = parse_pattern(arguments.pattern);
    const bool as_it_is = options.pattern.kind == PatternKind::kMatrix && arguments.sizes.empty();
    options.sizes = as_it_is ? std::vector<int64_t>{0} : parse_sizes(arguments.sizes.empty() ? "4KiB:4MiB" : arguments.sizes, arguments.factor);
    options.sections = sections_of(arguments, hosts);
    options.iterations = arguments.iterations;
    options.warm_up = arguments.warm_up;
    options.check = arguments.check;
  });
  share_matrix(control, options.pattern);
  agree_on(control, kCall, [&] { make_traffic(options.pattern, control.size(), options.sizes.back()).total(); });
  return options;
}

std::vector<std::string> names_of(const Arguments& arguments, int ranks) {
  std::vector<std::string> all = {kAlltoallv};
  for (const char* transport : kTransports) all.emplace_back(transport);
  if (ranks == 1) return {"SELF"};
  if (arguments.transports == std::vector<std::string>{"all"}) return all;
  for (const std::string& asked : arguments.transports) {
    if (std::find(all.begin(), all.end(), asked) != all.end()) continue;
    throw Error(ExitCode::kUsage, fmt::format("--transport must be all, or of {} but is '{}'", fmt::join(all, ", "), asked));
  }
  return arguments.transports;
}

Measured make_subjects(const MpiSession& session, const std::vector<std::string>& names, int64_t largest, const std::string& emulated_link) {
  Measured measured;
  const auto add = [&](const std::string& name, std::unique_ptr<Exchanger> exchanger) {
    measured.exchangers.push_back(std::move(exchanger));
    measured.subjects.push_back({name, measured.exchangers.back().get()});
  };
  for (const std::string& name : names) {
    if (name == kAlltoallv) {
      add(name, make_alltoallv_exchanger(session.world()));
      continue;
    }
    Made made = make_communicator(session, {.transport = transport_named(name),
                                            .sizes = {std::max(largest, kSmallBox), kSmallBox},
                                            .checked = false,
                                            .window = {},
                                            .emulated_link = emulated_link});
    if (!made.sentence.starts_with(fmt::format("transport {}:", name))) {
      measured.notes.push_back(fmt::format("{} is not measured: {}", name, made.sentence));
      continue;
    }
    measured.communicators.push_back(std::move(made.communicator));
    add(name, make_exchanger(*measured.communicators.back()));
  }
  return measured;
}

// The link file holds what the fastest transport of comm/ makes of the links, or else MPI_Alltoallv.
LinkFile link_file_of(const std::vector<SweepRow>& rows, const std::vector<int>& hosts) {
  LinkFile file;
  double best = -1;
  for (const TransportFit& fit : fit_rows(rows, hosts)) {
    const std::optional<LinkModel> model = fit.model();
    const double bandwidth = fit.transport == kAlltoallv ? 0 : average_bus_bandwidth(rows, fit.transport);
    if (!model || bandwidth <= best) continue;
    best = bandwidth;
    file.model = *model;
  }
  if (best < 0) throw Error(ExitCode::kUsage, "--fit found nothing to fit: it needs two ranks and sizes that carry bytes between them");
  // Hosts of equal size, filled one after another, can be said in one number.
  const int per_host = static_cast<int>(std::count(hosts.begin(), hosts.end(), 0));
  bool equal = per_host < static_cast<int>(hosts.size());
  for (size_t rank = 0; rank < hosts.size(); ++rank) equal &= hosts[rank] == static_cast<int>(rank) / per_host;
  file.ranks_per_host = equal ? per_host : 0;
  return file;
}

int64_t largest_outbox(const SweepOptions& options, const std::vector<int>& hosts) {
  int64_t largest = 0;
  for (const Pairs pairs : options.sections) {
    for (const int64_t size : options.sizes) {
      largest = std::max(largest, outbox_bytes(only(make_traffic(options.pattern, static_cast<int>(hosts.size()), size), pairs, hosts)));
    }
  }
  return largest;
}

ExitCode profile(const MpiSession& session, const Arguments& arguments) {
  const auto control = make_control(session);
  SweepHead head;
  head.program = fmt::format("switchyard {}", kVersion);
  head.hosts = numbered_hosts(session);
  // Emulated hosts take part like real ones.
  if (!arguments.emulate.empty()) head.hosts = pretended_hosts(head.hosts, shared_link_file(*control, arguments.emulate).ranks_per_host);
  head.cores = session.host().cores;
  head.link = arguments.link;
  const SweepOptions options = sweep_options(*control, arguments, head.hosts);
  std::vector<std::string> names;
  agree_on(*control, kCall, [&] { names = names_of(arguments, session.size()); });
  std::optional<LinkModel> model;
  if (!arguments.link.empty()) model = shared_link_file(*control, arguments.link).model;

  const Measured measured = make_subjects(session, names, largest_outbox(options, head.hosts), arguments.emulate);
  head.notes = measured.notes;
  if (!arguments.emulate.empty()) head.notes.push_back("links are emulated after " + arguments.emulate + "; mpi-alltoallv is not");
  if (const auto warning = session.warning()) head.notes.push_back(*warning);
  std::vector<SweepRow> rows = sweep(*control, measured.subjects, head.hosts, options);
  predict(rows, head.hosts, model);
  agree_on(*control, kCall, [&] {
    if (session.rank() == 0 && !arguments.fit.empty()) write_link_file(arguments.fit, link_file_of(rows, head.hosts));
  });
  if (session.rank() == 0) {
    const std::string text = arguments.json ? sweep_json(head, options, rows) : arguments.csv ? sweep_csv(rows, head.hosts) : sweep_text(head, options, rows);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  if (const int64_t wrong = total_wrong(rows); wrong > 0) {
    throw AgreedError(ExitCode::kFailure, fmt::format("{} words arrived wrong; column #wrong tells where: do not train over this transport", wrong), 0);
  }
  return ExitCode::kOk;
}

}  // namespace

void add_profile_alltoall(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("alltoall", "All-to-all exchanges of growing sizes on every transport, with checked payload");
  command.add_option("--sizes", arguments->sizes, "Bytes per pair of ranks, from:to (default: 4KiB:4MiB; a matrix as it is)")->type_name("SIZE[:SIZE]");
  command.add_option("--factor", arguments->factor, "From one size to the next")->capture_default_str();
  command.add_option("--pattern", arguments->pattern, "uniform; zipf:S, rank j asked for 1/(j+1)^S as often as rank 0; matrix:FILE, bytes from row to column")
      ->capture_default_str();
  command.add_option("--pairs", arguments->pairs, "all, within or between hosts (default: all; each of them where hosts have several ranks)");
  command.add_option("--transport", arguments->transports, fmt::format("all, or of {}, {}", kAlltoallv, fmt::join(kTransports, ", ")))
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--iterations", arguments->iterations, "Timed exchanges of each size and transport")->capture_default_str()->check(CLI::Range(1, 1000000));
  command.add_option("--warm-up", arguments->warm_up, "Exchanges before them")->capture_default_str()->check(CLI::Range(0, 1000000));
  command.add_option("--check", arguments->check, "Exchanges before them whose payload is compared, and the last timed one; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command.add_option("--fit", arguments->fit, "Write alpha and beta of the links, by the fastest transport, to this link file")->type_name("FILE");
  command.add_option("--link", arguments->link, "Predict by this link file instead of each transport's own fit")->type_name("FILE");
  command.add_option("--emulate", arguments->emulate, "Let the links take the time that this link file says; MPI_Alltoallv keeps its own")->type_name("FILE");
  command.add_flag("--json", arguments->json, "Print one JSON object");
  command.add_flag("--csv", arguments->csv, "Print comma-separated values");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return profile(session, *arguments); }); }, true});
}

}  // namespace switchyard
