// Products by oneDNN: c [m, n] (+)= a [m, k] * B [k, n], dense rows, B packed, sums in F32, on one thread.
//
// The layout of B is asked once per (dtype, k, n) and every number of rows must accept it. Primitives are created where
// the library sees one thread, because it fixes blocking and the order of the sum at creation.
#pragma once

#include <dnnl.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/cpu/loops.h"

namespace switchyard::cpu {

struct MatmulShape {
  Dtype dtype = Dtype::kF32;   // of a and B
  Dtype result = Dtype::kF32;  // of c
  int64_t m = 0, k = 0, n = 0;
  bool add = false;  // c += instead of c =

  bool operator==(const MatmulShape&) const = default;
};

struct MatmulShapeHash {
  size_t operator()(const MatmulShape& shape) const;
};

// One primitive and, per thread, the arguments that it is called with.
class Matmul {
 public:
  Matmul(const dnnl::matmul::primitive_desc& description, const dnnl::engine& engine, int threads);

  int64_t scratch_bytes() const { return scratch_bytes_; }
  // `scratch`: scratch_bytes() of this thread. Throws InternalError if the library refuses.
  void run(int thread, const void* a, const void* b, void* c, void* scratch);

 private:
  struct Arguments {
    std::array<dnnl::memory, 4> memories;
    std::array<dnnl_exec_arg_t, 4> list;
    dnnl::stream stream;
  };
  dnnl::matmul primitive_;
  int64_t scratch_bytes_;
  std::vector<Arguments> arguments_;
};

class MatmulEngine {
 public:
  explicit MatmulEngine(int threads);

  // The dtype in which operands of `dtype` are multiplied: BF16 widens to F32 where the processor has no such product.
  Dtype dtype_for(Dtype dtype) const { return dtype == Dtype::kBF16 && !native_bf16_ ? Dtype::kF32 : dtype; }
  const PackLayout& layout(Dtype dtype, int64_t k, int64_t n) { return operand(dtype, k, n).layout; }
  // True if a row's bits do not depend on m, for any m that is a multiple of 16.
  bool rows_may_vary(Dtype dtype, int64_t k, int64_t n);
  // Creates what is not there yet: call it before the tasks that run it.
  Matmul& find(const MatmulShape& shape);
  // The name of the implementation, for tests and `doctor`.
  std::string implementation(const MatmulShape& shape);

 private:
  struct Operand {
    PackLayout layout;
    dnnl::memory::desc description;
    std::string implementation;
  };
  const Operand& operand(Dtype dtype, int64_t k, int64_t n);
  dnnl::matmul::primitive_desc describe(const MatmulShape& shape, const dnnl::memory::desc& b) const;

  int threads_;
  dnnl::engine engine_;
  bool native_bf16_;
  std::unordered_map<MatmulShape, Operand, MatmulShapeHash> operands_;
  std::unordered_map<MatmulShape, std::unique_ptr<Matmul>, MatmulShapeHash> primitives_;
};

// What the library may use of this processor.
bool has_native_bf16();
bool has_amx();

}  // namespace switchyard::cpu
