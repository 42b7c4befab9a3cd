// The sweep: measures exchanges of growing sizes on several transports, and checks what arrives.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/profile/exchanger.h"
#include "src/profile/fit.h"
#include "src/profile/traffic.h"

namespace switchyard {

// A transport that is measured.
struct Subject {
  std::string name;
  Exchanger* exchanger = nullptr;
};

double monotonic_seconds();

struct SweepOptions {
  std::vector<int64_t> sizes;  // bytes per pair; {0}: the matrix of the pattern as it is
  Pattern pattern;
  std::vector<Pairs> sections = {Pairs::kAll};
  int iterations = 100, warm_up = 10;
  std::function<double()> clock = monotonic_seconds;
  int check = 1;  // repetitions before the timed ones whose payload is compared, and the last timed one; 0: none
};

struct Times {
  double min = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;  // seconds
};
// Of the values by nearest rank: the smallest value that a share of them does not exceed. Sorts them. Not of none.
Times times_of(std::vector<double>& values);

struct SweepRow {
  std::string transport;
  Pairs pairs = Pairs::kAll;
  int64_t pair_bytes = 0;  // asked for
  Traffic traffic;
  Times time;                 // over the repetitions, of the slowest rank each
  double straggler_wait = 0;  // seconds: median over repetitions of the sum over ranks of t_r - min t
  int64_t wrong = 0;          // 4-byte words, of all ranks
  double predicted = 0;       // seconds by a LinkModel

  // GB/s as nccl-tests define them: the busiest rank's whole buffer over the median time; and that without own rows.
  double algorithm_bandwidth() const;
  double bus_bandwidth() const;
};

// Measures. For each size the transports take turns. Collective over `control`, whose barrier starts every repetition;
// the rows are the same on every rank. `hosts` [P].
std::vector<SweepRow> sweep(Communicator& control, const std::vector<Subject>& subjects, const std::vector<int>& hosts, const SweepOptions& options);

// What was fitted to the rows of one transport.
struct TransportFit {
  std::string transport;
  std::optional<LinkFit> within, between;

  // A kind of link that was not measured costs what the other one does. None where nothing was fitted.
  std::optional<LinkModel> model() const;
};
// One for each transport, in order of appearance. Rows count for the kind of link that all their messages
// take, with their quickest repetition: noise only adds.
std::vector<TransportFit> fit_rows(const std::vector<SweepRow>& rows, const std::vector<int>& hosts);

// Fills `predicted` of each row: by `model`, or where there is none by its own transport's fit.
void predict(std::vector<SweepRow>& rows, const std::vector<int>& hosts, const std::optional<LinkModel>& model);

}  // namespace switchyard
