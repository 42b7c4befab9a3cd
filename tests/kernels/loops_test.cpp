// One text of the CPU's loops, built for two levels of the processor: the same bits. Where the higher one is missing, the lower
// is compared with itself.
#include "kernels/cpu/loops.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/compare.h"

namespace switchyard {
namespace {

TEST(Loops, BothBuildsActivateAlike) {
  const cpu::Loops& low = cpu::loops_v3();
  const cpu::Loops& high = __builtin_cpu_supports("x86-64-v4") ? cpu::loops_v4() : cpu::loops_v3();
  Pool pool;
  for (Dtype dtype : {Dtype::kF32, Dtype::kBF16}) {
    for (bool gelu : {false, true}) {
      const Shape shape{5, 77};
      const Tensor u = pool.uniform(dtype, shape, -30, 30), gate = pool.uniform(dtype, shape), dh = pool.uniform(dtype, shape);
      const auto run = [&](const cpu::Loops& loops) {
        std::vector<Tensor> results;
        for (int i = 0; i < 3; ++i) results.push_back(pool.make(dtype, shape));
        cpu::ActivateRows args{};
        args.dtype = dtype;
        args.gelu = gelu;
        args.rows = 5;
        args.columns = 77;
        args.u = u.data();
        args.gate = gate.data();
        args.h = results[0].data();
        args.dh = dh.data();
        args.du = results[1].data();
        args.dgate = results[2].data();
        loops.activate(args);
        loops.activate_backward(args);
        return results;
      };
      const std::vector<Tensor> expected = run(low), actual = run(high);
      for (size_t i = 0; i < 3; ++i) expect_same_bits(actual[i], expected[i], gelu ? "GELU" : "ReLU");
    }
  }
}

TEST(Loops, BothBuildsMakeTheSamePayloads) {
  Pool pool;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16}) {
    for (const PayloadFormat format : {PayloadFormat::kInt8, PayloadFormat::kFp8}) {
      const Tensor x = pool.uniform(dtype, {40, 130}, -2, 1);
      Tensor payloads[2], values[2];
      for (const bool newer : {false, true}) {
        const cpu::Loops& loops = newer && __builtin_cpu_supports("x86-64-v4") ? cpu::loops_v4() : cpu::loops_v3();
        const Tensor payload = payloads[newer] = pool.make(Dtype::kI32, {40, payload_words(130)}), y = values[newer] = pool.make(dtype, {40, 130});
        loops.quantise({payload.get<int32_t>(), nullptr, x.data(), dtype, format, 40, 130});
        loops.dequantise({y.data(), nullptr, payload.get<int32_t>(), dtype, format, 40, 130});
      }
      expect_same_bits(payloads[1], payloads[0], format == PayloadFormat::kFp8 ? "FP8 payload" : "INT8 payload");
      expect_same_bits(values[1], values[0], format == PayloadFormat::kFp8 ? "FP8 values" : "INT8 values");
    }
  }
}

}  // namespace
}  // namespace switchyard
