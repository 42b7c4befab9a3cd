// Initial values, keyed by (seed, global name, row, column): the same for every number of ranks.
#include <cmath>

#include "kernels/rng.h"
#include "src/train/parameter_store.h"

namespace switchyard {
namespace {

// Inverse of the error function (M. Giles, "Approximating the erfinv function", 2010, single precision), in f64.
double inverse_erf(double x) {
  double w = -std::log((1.0 - x) * (1.0 + x));
  double p = 0;
  if (w < 5.0) {
    w -= 2.5;
    constexpr double kCentral[] = {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                                   -0.00125372503, -0.00417768164, 0.246640727,    1.50140941};
    for (double c : kCentral) p = p * w + c;
  } else {
    w = std::sqrt(w) - 3.0;
    constexpr double kTail[] = {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                                -0.0076224613,   0.00943887047,  1.00167406,    2.83297682};
    for (double c : kTail) p = p * w + c;
  }
  return p * x;
}

// A normal number by inversion: one word an element, and truncation is a matter of the interval.
double draw(uint32_t word, const Initializer& initializer, double deviation) {
  constexpr double kWithinTwo = 0.95449973610364158;                // P(|z| < 2)
  const double unit = (static_cast<double>(word) + 0.5) * 0x1p-32;  // (0, 1)
  const double reach = initializer.kind == Initializer::Kind::kTruncatedNormal ? kWithinTwo : 1.0;
  return deviation * std::sqrt(2.0) * inverse_erf(reach * (2.0 * unit - 1.0));
}

template <class T>
void fill_rows(T* values, const Parameter& parameter, BlockRange range, uint64_t seed) {
  const int64_t columns = parameter.columns();
  const Random random(seed, Purpose::kInitialise, 0, 0, hash_name(parameter.name.c_str()));
  for (int64_t row = 0; row < range.rows; ++row) {
    const Initializer& initializer = parameter.initializer;
    const double deviation = range.first_row + row < initializer.first_rows ? initializer.first_rows_deviation : initializer.deviation;
    for (int64_t column = 0; column < columns; column += 4) {
      const Philox4 words = random.words(static_cast<uint64_t>(range.first_row + row), static_cast<uint32_t>(column / 4));
      for (int64_t i = column; i < std::min(columns, column + 4); ++i) {
        values[row * columns + i] = static_cast<T>(draw(words[static_cast<size_t>(i - column)], initializer, deviation));
      }
    }
  }
}

template <class T>
void fill_block(T* values, const Parameter& parameter, BlockRange range, uint64_t seed) {
  const int64_t elements = range.rows * parameter.columns();
  switch (parameter.initializer.kind) {
    case Initializer::Kind::kZero: std::fill_n(values, elements, T(0)); return;
    case Initializer::Kind::kOne: std::fill_n(values, elements, T(1)); return;
    default: fill_rows(values, parameter, range, seed);
  }
}

}  // namespace

void ParameterStore::initialise(uint64_t seed, int threads) {
  std::vector<const PlacedBlock*> mine;
  for (const PlacedBlock& block : blocks_) {
    if (block.owned_index >= 0) mine.push_back(&block);
  }
  const int64_t count = static_cast<int64_t>(mine.size());
  const Tensor masters = masters_.fetch(backend_);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    const PlacedBlock& block = *mine[static_cast<size_t>(i)];
    const int64_t elements = block.range.rows * block.parameter->columns();
    const Tensor master = masters.slice_rows(owned_offsets_[static_cast<size_t>(block.owned_index)], elements);
    if (master.dtype() == Dtype::kF64) {
      fill_block(master.get<double>(), *block.parameter, block.range, seed);
    } else {
      fill_block(master.get<float>(), *block.parameter, block.range, seed);
    }
  }
  masters_.take_over(backend_);
}

}  // namespace switchyard
