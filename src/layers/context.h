// Context: what a layer works with besides its parameters. One per rank, passed by reference. It holds no communicator:
// only src/moe/exchange has one.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/memory.h"
#include "src/base/trace.h"

namespace switchyard {

class RouteBook;  // src/moe/route.h

// The three dtypes of a model (the paper's selective precision). No layer names a dtype.
struct Precision {
  Dtype activation = Dtype::kF32;
  Dtype weight = Dtype::kF32;
  Dtype exact = Dtype::kF32;  // router, norm statistics, softmax, loss, gradients, masters, moments
};
constexpr Precision kPrecisionF64{Dtype::kF64, Dtype::kF64, Dtype::kF64};
constexpr Precision kPrecisionF32{Dtype::kF32, Dtype::kF32, Dtype::kF32};
constexpr Precision kPrecisionBF16{Dtype::kBF16, Dtype::kBF16, Dtype::kF32};

// Which micro-batch is being worked on.
struct Key {
  uint64_t seed = 0;
  uint32_t step = 0;
  int64_t lane = 0;
  int64_t accumulation = 0;
  uint64_t first_token = 0;  // global number, within the step, of this micro-batch's first token
};

struct Context {
  Backend& backend;
  Arena& saved;    // what forward keeps for backward
  Arena& scratch;  // what lives within one call
  Precision precision;
  Trace& trace;
  Key key;
  bool training = true;
  RouteBook* routes = nullptr;  // records or replays the routers' decisions; null: neither

  Tensor keep(Dtype dtype, Shape shape) { return saved.take(dtype, shape); }
  Tensor temporary(Dtype dtype, Shape shape) { return scratch.take(dtype, shape); }

  // The draw of row r of a tensor whose rows are this micro-batch's tokens.
  Random random(Purpose purpose, int layer) const { return Random(key.seed, purpose, static_cast<uint32_t>(layer), key.step, key.first_token); }
  // Dropout at `rate` while training, none otherwise.
  Dropout dropout(double rate, Purpose purpose, int layer) const { return training && rate > 0 ? Dropout{rate, random(purpose, layer)} : Dropout{}; }
};

}  // namespace switchyard
