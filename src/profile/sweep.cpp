#include "src/profile/sweep.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>

#include "comm/agree.h"
#include "comm/scalars.h"
#include "src/profile/payload.h"

namespace switchyard {
namespace {

constexpr Call kCall{"profile", -1};
constexpr int kTurns = 4;

// The runs of one transport with one traffic.
class Measurement {
 public:
  Measurement(Communicator& control, const Subject& subject, const Traffic& traffic, const std::function<double()>& clock)
      : control_(control), exchanger_(*subject.exchanger), traffic_(traffic), now_(clock) {
    agree_on(control, kCall, [&] { exchanger_.prepare(traffic); });
  }

  // Repetitions that are not timed; the payload of each is compared where `checked`.
  void repeat(int repetitions, bool checked) {
    for (int i = 0; i < repetitions; ++i) {
      once();
      if (checked) compare();
    }
  }
  void time(int repetitions) {
    for (int i = 0; i < repetitions; ++i) seconds_.push_back(once());
  }
  // Counts what the last repetition left.
  void compare();
  // Adds up what all ranks found. Collective.
  void finish(SweepRow& row);

 private:
  double once();

  Communicator& control_;
  Exchanger& exchanger_;
  const Traffic& traffic_;
  const std::function<double()>& now_;
  int64_t repetition_ = 0;
  int64_t wrong_ = 0;
  std::vector<double> seconds_;
};

// Waiting for the outbox counts, packing does not.
double Measurement::once() {
  ++repetition_;
  control_.barrier(kCall);
  const double begin = now_();
  uint32_t* words = exchanger_.open();
  const double opened = now_();
  for (int peer = 0; peer < traffic_.ranks; ++peer) {
    const size_t count = static_cast<size_t>(traffic_.at(control_.rank(), peer) / 4);
    fill_payload({words, count}, {control_.rank(), peer, repetition_});
    words += count;
  }
  control_.barrier(kCall);
  const double packed = now_();
  exchanger_.exchange();
  return now_() - packed + (opened - begin);
}

void Measurement::compare() {
  const uint32_t* words = exchanger_.inbox();
  for (int peer = 0; peer < traffic_.ranks; ++peer) {
    const size_t count = static_cast<size_t>(traffic_.at(peer, control_.rank()) / 4);
    wrong_ += wrong_words({words, count}, {peer, control_.rank(), repetition_});
    words += count;
  }
}

void Measurement::finish(SweepRow& row) {
  int64_t wrong[1] = {wrong_};
  control_.reduce(kCall, wrong, Reduction::kSum);
  row.wrong = wrong[0];
  const size_t ranks = static_cast<size_t>(control_.size()), repetitions = seconds_.size();
  const std::vector<int64_t> counts(ranks, static_cast<int64_t>(repetitions));
  std::vector<double> all(ranks * repetitions), slowest(repetitions), waits(repetitions);
  gather_scalars(control_, kCall, seconds_, counts, all);
  for (size_t i = 0; i < repetitions; ++i) {
    double least = all[i], sum = 0;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const double seconds = all[rank * repetitions + i];
      slowest[i] = std::max(slowest[i], seconds);
      least = std::min(least, seconds);
      sum += seconds;
    }
    waits[i] = sum - static_cast<double>(ranks) * least;
  }
  row.time = times_of(slowest);
  row.straggler_wait = times_of(waits).p50;
}

// All transports with one traffic.
void measure(Communicator& control, const std::vector<Subject>& subjects, const SweepOptions& options, const SweepRow& common, std::vector<SweepRow>& rows) {
  std::vector<Measurement> measurements;
  measurements.reserve(subjects.size());
  for (const Subject& subject : subjects) {
    measurements.emplace_back(control, subject, common.traffic, options.clock);
    measurements.back().repeat(options.check, true);
    measurements.back().repeat(options.warm_up, false);
  }
  for (int turn = 0; turn < kTurns; ++turn) {
    const int repetitions = (turn + 1) * options.iterations / kTurns - turn * options.iterations / kTurns;
    for (Measurement& measurement : measurements) measurement.time(repetitions);
  }
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (options.check > 0) measurements[i].compare();
    SweepRow row = common;
    row.transport = subjects[i].name;
    measurements[i].finish(row);
    rows.push_back(std::move(row));
  }
}

}  // namespace

double monotonic_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Times times_of(std::vector<double>& values) {
  check(!values.empty(), "times_of: no values");
  std::sort(values.begin(), values.end());
  const auto rank = [&](double share) {
    const double place = std::ceil(share * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(place, 1.0)) - 1];
  };
  return {values.front(), rank(0.5), rank(0.95), rank(0.99), values.back()};
}

double SweepRow::algorithm_bandwidth() const { return time.p50 > 0 ? static_cast<double>(traffic.largest()) / time.p50 * 1e-9 : 0; }

double SweepRow::bus_bandwidth() const { return algorithm_bandwidth() * (traffic.ranks - 1) / std::max(1, traffic.ranks); }

std::vector<SweepRow> sweep(Communicator& control, const std::vector<Subject>& subjects, const std::vector<int>& hosts, const SweepOptions& options) {
  std::vector<SweepRow> rows;
  for (const Pairs pairs : options.sections) {
    for (const int64_t size : options.sizes) {
      SweepRow common;
      common.pairs = pairs;
      common.pair_bytes = size;
      common.traffic = only(make_traffic(options.pattern, control.size(), size), pairs, hosts);
      measure(control, subjects, options, common, rows);
    }
  }
  return rows;
}

std::optional<LinkModel> TransportFit::model() const {
  if (!within && !between) return std::nullopt;
  return LinkModel{within ? within->link : between->link, between ? between->link : within->link};
}

std::vector<TransportFit> fit_rows(const std::vector<SweepRow>& rows, const std::vector<int>& hosts) {
  std::vector<TransportFit> fits;
  for (const SweepRow& first : rows) {
    if (std::any_of(fits.begin(), fits.end(), [&](const TransportFit& fit) { return fit.transport == first.transport; })) continue;
    std::vector<FitSample> within, between;
    for (const SweepRow& row : rows) {
      if (row.transport != first.transport) continue;
      const WireBytes wire = wire_bytes(row.traffic, hosts);
      if (wire.within > 0 && wire.between == 0) within.push_back(fit_sample(row.traffic, row.time.min));
      if (wire.between > 0 && wire.within == 0) between.push_back(fit_sample(row.traffic, row.time.min));
    }
    fits.push_back({first.transport, fit_link(within), fit_link(between)});
  }
  return fits;
}

void predict(std::vector<SweepRow>& rows, const std::vector<int>& hosts, const std::optional<LinkModel>& model) {
  const std::vector<TransportFit> fits = fit_rows(rows, hosts);
  for (SweepRow& row : rows) {
    std::optional<LinkModel> used = model;
    for (const TransportFit& fit : fits) {
      if (!model && fit.transport == row.transport) used = fit.model();
    }
    row.predicted = used ? seconds(*used, hosts, row.traffic.bytes) : 0;
  }
}

}  // namespace switchyard
