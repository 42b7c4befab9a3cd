// Times the operations of the CPU backend at the shapes of lm_small and lm_medium, and prints the best of several runs.
//
//   bench_kernels [threads] [part of a name]
//
// Rates are of useful work: padding and masked scores do not count as work done, causal attention counts half.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/memory.h"

namespace switchyard {
namespace {

// Seconds. With one thread it is the processor's time that counts, so that what else the machine does disturbs less.
double clock_seconds(bool processor) {
  timespec time{};
  clock_gettime(processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

class Bench {
 public:
  Bench(int threads, std::string filter) : backend_(make_cpu_backend(threads)), processor_(threads == 1), filter_(std::move(filter)) {}

  Backend& backend() { return *backend_; }
  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  // Numbers around zero; they stay allocated until the next case.
  Tensor values(Dtype dtype, Shape shape, float spread = 1.0f) {
    buffers_.push_back(make_buffer(Dtype::kF32, shape));
    const Tensor x = buffers_.back().tensor(Dtype::kF32, shape);
    for (int64_t first = 0; first < x.elements(); first += 4) {
      const Philox4 words = random_.words(0, static_cast<uint32_t>(first / 4));
      for (int64_t i = first; i < std::min(first + 4, x.elements()); ++i)
        x.get<float>()[i] = spread * (2.0f * unit_float(words[static_cast<size_t>(i - first)]) - 1.0f);
    }
    if (dtype == Dtype::kF32) return x;
    buffers_.push_back(make_buffer(dtype, shape));
    const Tensor y = buffers_.back().tensor(dtype, shape);
    backend_->convert(Out(y), x);
    return y;
  }
  Tensor integers(int64_t n, int32_t below) {
    buffers_.push_back(make_buffer(Dtype::kI32, {n}));
    const Tensor x = buffers_.back().tensor(Dtype::kI32, {n});
    for (int64_t i = 0; i < n; ++i) x.get<int32_t>()[i] = static_cast<int32_t>(random_.word(1, static_cast<uint32_t>(i)) % static_cast<uint32_t>(below));
    return x;
  }
  PackedMatrix packed(Dtype dtype, int64_t out, int64_t in, Side side) {
    PackedMatrix matrix{Tensor(), dtype, out, in, side};
    const int64_t words = backend_->packed_bytes(dtype, out, in, side) / 4;
    buffers_.push_back(make_buffer(Dtype::kI32, {words}));
    matrix.storage = buffers_.back().tensor(Dtype::kI32, {words});
    backend_->pack(matrix, values(dtype, {out, in}));
    return matrix;
  }

  // Runs f for about a quarter of a second after a first call; `work` is in flop or bytes, `unit` GFLOP/s or GB/s.
  void time(const std::string& name, double work, const char* unit, const std::function<void()>& f) {
    if (wants(name)) {
      f();
      double best = 1e9;
      const double end = clock_seconds(processor_) + 0.25;
      for (int i = 0; i < 3 || clock_seconds(processor_) < end; ++i) {
        const double start = clock_seconds(processor_);
        f();
        best = std::min(best, clock_seconds(processor_) - start);
      }
      std::printf("%-58s %9.1f us %8.1f %s\n", name.c_str(), best * 1e6, work / best * 1e-9, unit);
      std::fflush(stdout);
    }
    buffers_.clear();
  }

 private:
  std::unique_ptr<Backend> backend_;
  bool processor_;
  std::string filter_;
  std::deque<Buffer> buffers_;
  Random random_{1, Purpose::kSampling, 0, 0, 0};
};

std::string shape_name(Dtype dtype, const char* what, int64_t n, int64_t inner, int64_t columns) {
  char text[96];
  std::snprintf(text, sizeof text, "%-4s %-22s %5ld x %5ld x %5ld", name(dtype), what, static_cast<long>(n), static_cast<long>(inner),
                static_cast<long>(columns));
  return text;
}

void product(Bench& bench, Dtype dtype, const char* what, int64_t n, int64_t inner, int64_t columns, int64_t count = 1) {
  const std::string label = shape_name(dtype, what, n, inner, columns);
  if (!bench.wants(label)) return;
  std::vector<PackedMatrix> matrices;
  std::vector<Product> products;
  for (int64_t i = 0; i < count; ++i) matrices.push_back(bench.packed(dtype, columns, inner, Side::kForward));
  for (int64_t i = 0; i < count; ++i) {
    Product p{bench.values(dtype, {n, inner}), &matrices[static_cast<size_t>(i)], Out(bench.values(dtype, {n, columns}))};
    products.push_back(p);
  }
  const double work = 2.0 * static_cast<double>(count * n * inner * columns);
  bench.time(label, work, "GFLOP/s", [&] { bench.backend().multiply(products); });
}

void outer(Bench& bench, Dtype dtype, const char* what, int64_t n, int64_t out, int64_t in, int64_t count = 1) {
  const std::string label = shape_name(dtype, what, out, n, in);
  if (!bench.wants(label)) return;
  std::vector<OuterProduct> products;
  for (int64_t i = 0; i < count; ++i) {
    products.push_back({bench.values(dtype, {n, out}), bench.values(dtype, {n, in}), Accumulate(bench.values(Dtype::kF32, {out, in}))});
  }
  const double work = 2.0 * static_cast<double>(count * n * out * in);
  bench.time(label, work, "GFLOP/s", [&] { bench.backend().multiply_outer(products); });
}

void products(Bench& bench, Dtype dtype) {
  product(bench, dtype, "qkv small", 2048, 256, 768);
  product(bench, dtype, "attention out small", 2048, 256, 256);
  product(bench, dtype, "feed-forward in small", 2048, 256, 1024);
  product(bench, dtype, "feed-forward out small", 2048, 1024, 256);
  product(bench, dtype, "8 experts in small", 320, 256, 1024, 8);
  product(bench, dtype, "8 experts out small", 320, 1024, 256, 8);
  product(bench, dtype, "head small", 512, 256, 8192);
  product(bench, dtype, "head backward small", 512, 8192, 256);
  product(bench, dtype, "router small", 2048, 256, 8);
  product(bench, dtype, "qkv medium", 2048, 512, 1536);
  product(bench, dtype, "16 experts in medium", 160, 512, 2048, 16);
  product(bench, dtype, "16 experts out medium", 160, 2048, 512, 16);
  outer(bench, dtype, "dW ff in small", 2048, 1024, 256);
  outer(bench, dtype, "dW ff out small", 2048, 256, 1024);
  outer(bench, dtype, "dW 8 experts in small", 320, 1024, 256, 8);
  outer(bench, dtype, "dW 8 experts out small", 320, 256, 1024, 8);
  outer(bench, dtype, "dW head small", 512, 8192, 256);
  outer(bench, dtype, "dW qkv medium", 2048, 1536, 512);
  outer(bench, dtype, "dW 16 experts medium", 160, 2048, 512, 16);
  for (const Side side : {Side::kForward, Side::kBackward}) {
    const std::string label = std::string(name(dtype)) + (side == Side::kForward ? " pack forward 8192 x 256" : " pack backward 8192 x 256");
    if (!bench.wants(label)) continue;
    PackedMatrix matrix = bench.packed(dtype, 8192, 256, side);
    const Tensor w = bench.values(Dtype::kF32, {8192, 256});
    bench.time(label, static_cast<double>(w.bytes() + matrix.storage.bytes()), "GB/s", [&] { bench.backend().pack(matrix, w); });
  }
}

// Forward, or forward and backward.
void attention(Bench& bench, Dtype dtype, const char* what, int64_t batch, int64_t sequence, int64_t heads, bool both) {
  const std::string label = std::string(name(dtype)) + " attention " + what + (both ? " both ways" : " forward");
  if (!bench.wants(label)) return;
  const AttentionShape shape{batch, sequence, sequence, sequence, heads, 64, 0, true, 0.125};
  const int64_t rows = batch * sequence, width = heads * 64;
  const Tensor qkv = bench.values(dtype, {rows, 3 * width}), dqkv = bench.values(dtype, {rows, 3 * width});
  const AttentionInputs in{qkv.slice_columns(0, width), qkv.slice_columns(width, width), qkv.slice_columns(2 * width, width), Tensor(), Tensor()};
  const Tensor o = bench.values(dtype, {rows, width}), d_o = bench.values(dtype, {rows, width}), lse = bench.values(Dtype::kF32, {batch, heads, sequence});
  const double product = static_cast<double>(batch * heads * sequence * sequence * 64);  // of one product, causal
  Backend& backend = bench.backend();
  bench.time(label, (both ? 7 : 2) * product, "GFLOP/s", [&] {
    backend.attention_forward(Out(o), Out(lse), in, shape);
    if (!both) return;
    const Out dq(dqkv.slice_columns(0, width)), dk(dqkv.slice_columns(width, width)), dv(dqkv.slice_columns(2 * width, width));
    backend.attention_backward(dq, dk, dv, {}, d_o, o, lse, in, shape);
  });
}

void rows(Bench& bench, Dtype dtype) {
  const int64_t n = 2048, width = 256, vocabulary = 8192, chunk = 512;
  Backend& backend = bench.backend();
  const std::string type = name(dtype);
  if (const std::string label = type + " cross_entropy 512 x 8192"; bench.wants(label)) {
    const Tensor logits = bench.values(dtype, {chunk, vocabulary}, 4), loss = bench.values(Dtype::kF32, {chunk});
    const Tensor correct = bench.integers(chunk, 2), targets = bench.integers(chunk, static_cast<int32_t>(vocabulary));
    bench.time(label, 2.0 * static_cast<double>(logits.bytes()), "GB/s", [&] {
      backend.cross_entropy(logits, Out(loss), Out(correct), targets, {1.0, 1e-4, true});
    });
  }
  if (const std::string label = type + " norm_forward 2048 x 256"; bench.wants(label)) {
    const Tensor x = bench.values(dtype, {n, width}), y = bench.values(dtype, {n, width}), scale = bench.values(Dtype::kF32, {width});
    const Tensor bias = bench.values(Dtype::kF32, {width}), statistics = bench.values(Dtype::kF32, {n, 2});
    bench.time(label, 2.0 * static_cast<double>(x.bytes()), "GB/s", [&] { backend.norm_forward(Out(y), Out(statistics), x, scale, bias, Norm{}); });
  }
  if (const std::string label = type + " norm_backward 2048 x 256"; bench.wants(label)) {
    const Tensor x = bench.values(dtype, {n, width}), dy = bench.values(dtype, {n, width}), dx = bench.values(dtype, {n, width});
    const Tensor scale = bench.values(Dtype::kF32, {width}), statistics = bench.values(Dtype::kF32, {n, 2});
    const Tensor dscale = bench.values(Dtype::kF32, {width}), dbias = bench.values(Dtype::kF32, {width});
    bench.time(label, 4.0 * static_cast<double>(x.bytes()), "GB/s",
               [&] { backend.norm_backward(Accumulate(dx), Accumulate(dscale), Accumulate(dbias), dy, x, statistics, scale, Norm{}); });
  }
  for (const double rate : {0.0, 0.1}) {
    const std::string label = type + (rate > 0 ? " add with dropout 2048 x 256" : " add 2048 x 256");
    if (!bench.wants(label)) continue;
    const Tensor a = bench.values(dtype, {n, width}), b = bench.values(dtype, {n, width});
    bench.time(label, 3.0 * static_cast<double>(a.bytes()), "GB/s", [&] {
      backend.add(Out(a), a, b, Dropout{rate, Random(1, Purpose::kAttentionDropout, 0, 0, 0)});
    });
  }
  if (const std::string label = type + " gather_rows 2048 x 256"; bench.wants(label)) {
    const Tensor x = bench.values(dtype, {n, width}), y = bench.values(dtype, {n, width}), index = bench.integers(n, static_cast<int32_t>(n)).reshape({n, 1});
    const Tensor weight = bench.values(Dtype::kF32, {n, 1});
    bench.time(label, 2.0 * static_cast<double>(x.bytes()), "GB/s", [&] { backend.gather_rows(Out(y), x, index, weight); });
  }
  if (const std::string label = type + " embed_backward 2048 x 256"; bench.wants(label)) {
    const Tensor dx = bench.values(dtype, {n, width}), dtable = bench.values(Dtype::kF32, {vocabulary, width}),
                 dpositions = bench.values(Dtype::kF32, {256, width});
    const Tensor tokens = bench.integers(n, static_cast<int32_t>(vocabulary));
    bench.time(label, static_cast<double>(dx.bytes()), "GB/s", [&] { backend.embed_backward(Accumulate(dtable), Accumulate(dpositions), dx, tokens, 256); });
  }
}

void updates(Bench& bench) {
  const int64_t n = 4 << 20;
  Backend& backend = bench.backend();
  if (const std::string label = "F32 adamw 4 Mi"; bench.wants(label)) {
    const Tensor w = bench.values(Dtype::kF32, {n}), m = bench.values(Dtype::kF32, {n}), v = bench.values(Dtype::kF32, {n}), g = bench.values(Dtype::kF32, {n});
    backend.zero(Out(v));
    bench.time(label, 7.0 * static_cast<double>(w.bytes()), "GB/s", [&] { backend.adamw(w, m, v, g, AdamW{.learning_rate = 1e-3}); });
  }
  if (const std::string label = "F32 sum_of_squares 4 Mi"; bench.wants(label)) {
    const Tensor g = bench.values(Dtype::kF32, {n}), total = bench.values(Dtype::kF32, {2});
    const Tensor sum(total.data(), Dtype::kF64, {1});
    bench.time(label, static_cast<double>(g.bytes()), "GB/s", [&] { backend.sum_of_squares(Out(sum), g); });
  }
  if (const std::string label = "F32 routing 2048 x 8, all five"; bench.wants(label)) {
    const int64_t tokens = 2048, experts = 8;
    const Tensor logits = bench.values(Dtype::kF32, {tokens, experts}), p = bench.values(Dtype::kF32, {tokens, experts}),
                 lse = bench.values(Dtype::kF32, {tokens});
    const Tensor gate = bench.values(Dtype::kF32, {tokens}), expert = bench.integers(tokens, 8), requested = bench.integers(8, 1).reshape({1, 8});
    const Tensor kept = bench.integers(8, 1), slot = bench.integers(tokens, 1), position = bench.integers(tokens, 1), token = bench.integers(tokens, 1);
    const Tensor sums(bench.values(Dtype::kF32, {8}).data(), Dtype::kF64, {4}), dlogits = bench.values(Dtype::kF32, {tokens, experts});
    const RouterShape shape{tokens, experts, tokens};
    bench.time(label, static_cast<double>(logits.bytes()), "GB/s", [&] {
      backend.router_forward(Out(p), Out(lse), Out(expert), Out(gate), logits, Tensor());
      backend.assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, shape, {320});
      backend.router_losses(Out(sums), p, lse, expert, requested, shape, {0.01, 0.001});
      backend.router_backward(Out(dlogits), gate, p, lse, expert, requested, shape, {0.01, 0.001});
    });
  }
}

}  // namespace
}  // namespace switchyard

int main(int count, char** arguments) {
  using namespace switchyard;
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
  Bench bench(threads < 1 ? 1 : threads, count > 2 ? arguments[2] : "");
  std::printf("threads %d, BF16 %s\n", threads, cpu_has_fast_bf16() ? "fast" : "not faster than F32");
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16}) {
    products(bench, dtype);
    for (const bool both : {false, true}) {
      attention(bench, dtype, "B=8 S=256 H=4", 8, 256, 4, both);
      attention(bench, dtype, "B=4 S=512 H=8", 4, 512, 8, both);
    }
    rows(bench, dtype);
  }
  updates(bench);
  return 0;
}
