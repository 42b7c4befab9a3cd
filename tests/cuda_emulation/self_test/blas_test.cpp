// cuBLAS against loops in double precision: transposes, strides, batches, types, and which bits depend on what.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

class Blas {
 public:
  Blas() { EXPECT_EQ(cublasCreate(&handle_), CUBLAS_STATUS_SUCCESS); }
  ~Blas() { cublasDestroy(handle_); }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;
  operator cublasHandle_t() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

template <class T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> results;
  for (const float value : values) results.push_back(T(value));
  return results;
}

struct Shape {
  cublasOperation_t op_a, op_b;
  int m, n, k, lda, ldb, ldc;
  int a_columns() const { return op_a == CUBLAS_OP_N ? k : m; }
  int b_columns() const { return op_b == CUBLAS_OP_N ? n : k; }
};

template <class T>
cudaDataType type_of() {
  return sizeof(T) == 4 ? CUDA_R_32F : CUDA_R_16BF;
}

// The product by three loops, and whether the device's lies within `tolerance` of it, relative to the sum of magnitudes.
template <class In, class Out>
void compare(const Shape& s, float alpha, float beta, double tolerance) {
  const auto a = converted<In>(drawn(static_cast<size_t>(s.lda * s.a_columns()), 1));
  const auto b = converted<In>(drawn(static_cast<size_t>(s.ldb * s.b_columns()), 2));
  const auto c = converted<Out>(drawn(static_cast<size_t>(s.ldc * s.n), 3));
  const DeviceArray<In> a_device(a), b_device(b);
  const DeviceArray<Out> c_device(c);
  const Blas blas;
  ASSERT_EQ(cublasGemmEx(blas, s.op_a, s.op_b, s.m, s.n, s.k, &alpha, a_device.data(), type_of<In>(), s.lda, b_device.data(), type_of<In>(), s.ldb, &beta,
                         c_device.data(), type_of<Out>(), s.ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_SUCCESS);
  const std::vector<Out> found = c_device.host();
  for (int j = 0; j < s.n; ++j) {
    for (int i = 0; i < s.ldc; ++i) {
      const auto at = static_cast<size_t>(j * s.ldc + i);
      double sum = 0, magnitude = 0;
      for (int l = 0; l < s.k && i < s.m; ++l) {
        const double left = static_cast<float>(a[static_cast<size_t>(s.op_a == CUBLAS_OP_N ? l * s.lda + i : i * s.lda + l)]);
        const double right = static_cast<float>(b[static_cast<size_t>(s.op_b == CUBLAS_OP_N ? j * s.ldb + l : l * s.ldb + j)]);
        sum += left * right;
        magnitude += std::fabs(left * right);
      }
      const double before = static_cast<float>(c[at]);
      const double expected = i < s.m ? alpha * sum + beta * before : before;
      EXPECT_NEAR(static_cast<float>(found[at]), expected, tolerance * (magnitude + std::fabs(before))) << i << ", " << j;
    }
  }
}

TEST(CuBlas, MultipliesWithTransposesAndLeadingDimensions) {
  for (const cublasOperation_t op_a : {CUBLAS_OP_N, CUBLAS_OP_T}) {
    for (const cublasOperation_t op_b : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      compare<float, float>({op_a, op_b, 5, 7, 19, 21, 23, 6}, 1.0f, 0.0f, 2e-6);
      compare<float, float>({op_a, op_b, 5, 7, 19, 21, 23, 6}, 0.5f, 2.0f, 2e-6);
      compare<__nv_bfloat16, float>({op_a, op_b, 33, 3, 40, 41, 40, 33}, 1.0f, 1.0f, 4e-6);
      compare<__nv_bfloat16, __nv_bfloat16>({op_a, op_b, 33, 3, 40, 41, 40, 33}, 1.0f, 0.0f, 1.0 / 256);
    }
  }
  compare<float, float>({CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 0, 4, 1, 4}, 1.0f, 0.5f, 1e-7);
}

// 1 + 40 times 2^-9: exact in f32, and 1 + 20/256 in bf16. Rounded at each addition it would stay 1.
TEST(CuBlas, RoundsToBfloat16OnceAtTheEnd) {
  std::vector<__nv_bfloat16> a(41, __nv_bfloat16(1.0f / 512)), ones(41, __nv_bfloat16(1.0f));
  a[0] = __nv_bfloat16(1.0f);
  const DeviceArray<__nv_bfloat16> a_device(a), b_device(ones), c_device(1);
  const Blas blas;
  const float one = 1, zero = 0;
  ASSERT_EQ(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 41, &one, a_device.data(), CUDA_R_16BF, 1, b_device.data(), CUDA_R_16BF, 41, &zero,
                         c_device.data(), CUDA_R_16BF, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(static_cast<float>(c_device.host()[0]), 1.0f + 20.0f / 256);
}

TEST(CuBlas, MultipliesBatchesAtStrides) {
  const std::vector<float> a = drawn(3 * 10, 1), b = drawn(3 * 4, 2);  // 2 x 4 and 4 x 1, with gaps between batches of a
  const DeviceArray<float> a_device(a), b_device(b), c_device(std::vector<float>(6));
  const Blas blas;
  const float one = 1, zero = 0;
  ASSERT_EQ(cublasGemmStridedBatchedEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 1, 4, &one, a_device.data(), CUDA_R_32F, 2, 10, b_device.data(), CUDA_R_32F, 4, 4,
                                       &zero, c_device.data(), CUDA_R_32F, 2, 2, 3, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_SUCCESS);
  for (size_t batch = 0; batch < 3; ++batch) {
    for (size_t i = 0; i < 2; ++i) {
      double expected = 0;
      for (size_t l = 0; l < 4; ++l) expected += static_cast<double>(a[batch * 10 + l * 2 + i]) * b[batch * 4 + l];
      EXPECT_NEAR(c_device.host()[batch * 2 + i], expected, 1e-5);
    }
  }
}

TEST(CuBlas, MultipliesGroups) {
  const DeviceArray<float> a(std::vector<float>{1, 2, 3, 4, 5, 6}), b(std::vector<float>{10, 100, 1000}), c(std::vector<float>(3));
  // Two products of 1 x 2 with 2 x 1, and one of 1 x 1 with 1 x 1.
  const DeviceArray<const void*> a_list(std::vector<const void*>{a.data(), a.data() + 2, a.data() + 5});
  const DeviceArray<const void*> b_list(std::vector<const void*>{b.data(), b.data(), b.data() + 2});
  const DeviceArray<void*> c_list(std::vector<void*>{c.data(), c.data() + 1, c.data() + 2});
  const cublasOperation_t none[] = {CUBLAS_OP_N, CUBLAS_OP_N};
  const int m[] = {1, 1}, n[] = {1, 1}, k[] = {2, 1}, lda[] = {1, 1}, ldb[] = {2, 1}, ldc[] = {1, 1}, sizes[] = {2, 1};
  const float alpha[] = {1, 2}, beta[] = {0, 0};
  const Blas blas;
  ASSERT_EQ(cublasGemmGroupedBatchedEx(blas, none, none, m, n, k, alpha, a_list.data(), CUDA_R_32F, lda, b_list.data(), CUDA_R_32F, ldb, beta, c_list.data(),
                                       CUDA_R_32F, ldc, 2, sizes, CUBLAS_COMPUTE_32F),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(c.host(), (std::vector<float>{210, 430, 12000}));
}

TEST(CuBlas, RefusesWhatWouldReadPastTheEnd) {
  const DeviceArray<float> a(12), b(12), c(9);
  const Blas blas;
  const float one = 1, zero = 0;
  const auto multiply = [&](int m, int n, int k, int lda, int ldb, int ldc) {
    return cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a.data(), CUDA_R_32F, lda, b.data(), CUDA_R_32F, ldb, &zero, c.data(), CUDA_R_32F, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  };
  EXPECT_EQ(multiply(3, 3, 4, 3, 4, 3), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(3, 3, 5, 3, 5, 3), CUBLAS_STATUS_INVALID_VALUE) << "a and b are too small";
  EXPECT_EQ(multiply(3, 3, 4, 2, 4, 3), CUBLAS_STATUS_INVALID_VALUE) << "a leading dimension below the rows";
  EXPECT_EQ(multiply(3, 3, 4, 3, 4, 4), CUBLAS_STATUS_INVALID_VALUE) << "c is too small";
  EXPECT_EQ(multiply(3, 0, 4, 3, 4, 3), CUBLAS_STATUS_SUCCESS) << "nothing to do";
  fail_next_call(cudaErrorUnknown);
  EXPECT_EQ(multiply(3, 3, 4, 3, 4, 3), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_EQ(multiply(3, 3, 4, 3, 4, 3), CUBLAS_STATUS_SUCCESS);
}

TEST(CuBlas, TensorFloatRoundsItsInputs) {
  const float value = 1.0f + 1.0f / 4096;  // 12 bits of mantissa
  const DeviceArray<float> a(std::vector<float>{value}), b(std::vector<float>{1.0f}), c(1);
  const Blas blas;
  const float one = 1, zero = 0;
  const auto square = [&](cublasComputeType_t compute) {
    EXPECT_EQ(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.data(), CUDA_R_32F, 1, b.data(), CUDA_R_32F, 1, &zero, c.data(), CUDA_R_32F, 1,
                           compute, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    return c.host()[0];
  };
  EXPECT_EQ(square(CUBLAS_COMPUTE_32F), value);
  EXPECT_EQ(square(CUBLAS_COMPUTE_32F_FAST_TF32), 1.0f);
  ASSERT_EQ(cublasSetMathMode(blas, CUBLAS_TF32_TENSOR_OP_MATH), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(square(CUBLAS_COMPUTE_32F), 1.0f);
  EXPECT_EQ(square(CUBLAS_COMPUTE_32F_PEDANTIC), value);
}

// The first column's bits, computed beside n - 1 others.
TEST(CuBlas, BitsDependOnTheShapeAsThoseOfTheRealLibraryMay) {
  const DeviceArray<float> a(drawn(64 * 200, 1)), b(drawn(200 * 12, 2)), c(64 * 12);
  const Blas blas;
  const float one = 1, zero = 0;
  const auto first_column = [&](int n) {
    EXPECT_EQ(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 64, n, 200, &one, a.data(), CUDA_R_32F, 64, b.data(), CUDA_R_32F, 200, &zero, c.data(), CUDA_R_32F,
                           64, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    const std::vector<float> all = c.host();
    return std::vector<float>(all.begin(), all.begin() + 64);
  };
  EXPECT_EQ(first_column(7), first_column(7));
  bool differ = false;
  for (int n = 1; n <= 12; ++n) differ = differ || first_column(n) != first_column(1);
  EXPECT_TRUE(differ) << "a program that leaves the algorithm to the library must not pass for one whose bits are fixed";
}

}  // namespace
}  // namespace switchyard::emulation
