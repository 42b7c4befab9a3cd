// cublasLt: layouts, epilogues, and algorithms that the program fixes.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

// Row-major d[rows, n] = x[rows, k] w[k, n], which cublasLt sees as columns: d' = w' x'.
class Product {
 public:
  Product(uint64_t rows, uint64_t n, uint64_t k, cudaDataType type = CUDA_R_32F) {
    good(cublasLtCreate(&handle));
    good(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    good(cublasLtMatrixLayoutCreate(&w, type, n, k, static_cast<int64_t>(n)));
    good(cublasLtMatrixLayoutCreate(&x, type, k, rows, static_cast<int64_t>(k)));
    good(cublasLtMatrixLayoutCreate(&d, type, n, rows, static_cast<int64_t>(n)));
  }
  ~Product() {
    for (const cublasLtMatrixLayout_t layout : {w, x, d}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(description);
    cublasLtDestroy(handle);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t number, const T& value) {
    good(cublasLtMatmulDescSetAttribute(description, number, &value, sizeof value));
  }

  cublasStatus_t run(const void* w_data, const void* x_data, void* d_data, const cublasLtMatmulAlgo_t* algorithm = nullptr, void* workspace = nullptr,
                     size_t workspace_bytes = 0) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(handle, description, &one, w_data, w, x_data, x, &zero, d_data, d, d_data, d, algorithm, workspace, workspace_bytes, nullptr);
  }

  static void good(cublasStatus_t status) { EXPECT_EQ(status, CUBLAS_STATUS_SUCCESS); }

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, d = nullptr;
};

TEST(CuBlasLt, AddsABiasAndCutsAtZero) {
  // x [2, 3], w [3, 2], both row-major.
  const DeviceArray<float> x(std::vector<float>{1, 2, 3, -1, -2, -3}), w(std::vector<float>{1, 0, 0, 1, 1, 1}), d(4), bias(std::vector<float>{0.5f, -5.5f});
  Product product(2, 2, 3);
  Product::good(product.run(w.data(), x.data(), d.data()));
  EXPECT_EQ(d.host(), (std::vector<float>{4, 5, -4, -5}));
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU);
  Product::good(product.run(w.data(), x.data(), d.data()));
  EXPECT_EQ(d.host(), (std::vector<float>{4, 5, 0, 0}));
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU_BIAS);
  EXPECT_EQ(product.run(w.data(), x.data(), d.data()), CUBLAS_STATUS_INVALID_VALUE) << "no bias was given";
  product.set<const void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
  Product::good(product.run(w.data(), x.data(), d.data()));
  EXPECT_EQ(d.host(), (std::vector<float>{4.5f, 0, 0, 0}));
}

TEST(CuBlasLt, TransposesAndReadsRowOrder) {
  const DeviceArray<float> x(std::vector<float>{1, 2, 3, 4}), w(std::vector<float>{1, 10, 100, 1000}), d(4);
  Product product(2, 2, 2);
  product.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  Product::good(product.run(w.data(), x.data(), d.data()));
  EXPECT_EQ(d.host(), (std::vector<float>{21, 2100, 43, 4300})) << "x w'";
  const cublasLtOrder_t rows = CUBLASLT_ORDER_ROW;
  Product::good(cublasLtMatrixLayoutSetAttribute(product.w, CUBLASLT_MATRIX_LAYOUT_ORDER, &rows, sizeof rows));
  Product::good(product.run(w.data(), x.data(), d.data()));
  EXPECT_EQ(d.host(), (std::vector<float>{201, 2010, 403, 4030})) << "the transpose of what is read by rows";
}

class Algorithms : public testing::Test {
 protected:
  // The first row's bits, computed beside rows - 1 others.
  std::vector<float> first_row(uint64_t rows, const cublasLtMatmulAlgo_t* algorithm) {
    Product product(rows, 8, 200);
    Product::good(product.run(w_.data(), x_.data(), d_.data(), algorithm));
    const std::vector<float> all = d_.host();
    return {all.begin(), all.begin() + 8};
  }

  cublasLtMatmulAlgo_t algorithm(int id) {
    cublasLtMatmulAlgo_t result;
    Product::good(cublasLtMatmulAlgoInit(nullptr, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, id, &result));
    return result;
  }

  const DeviceArray<float> w_{drawn(200 * 8, 1)}, x_{drawn(200 * 24, 2)}, d_{24 * 8};
};

TEST_F(Algorithms, FixedOnesGiveTheSameBitsForAnyNumberOfRows) {
  for (int id = 0; id < 4; ++id) {
    const cublasLtMatmulAlgo_t fixed = algorithm(id);
    for (uint64_t rows = 2; rows <= 24; ++rows) EXPECT_EQ(first_row(rows, &fixed), first_row(1, &fixed)) << "algorithm " << id << ", " << rows << " rows";
  }
}

TEST_F(Algorithms, ThoseOfTheHeuristicsDoNot) {
  bool differ = false;
  for (uint64_t rows = 2; rows <= 24; ++rows) differ = differ || first_row(rows, nullptr) != first_row(1, nullptr);
  EXPECT_TRUE(differ);
}

TEST_F(Algorithms, SplittingTheInnerExtentNeedsAWorkspace) {
  cublasLtMatmulAlgo_t split = algorithm(0);
  const uint32_t parts = 3, scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  Product::good(cublasLtMatmulAlgoConfigSetAttribute(&split, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts));
  Product::good(cublasLtMatmulAlgoConfigSetAttribute(&split, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme));
  Product product(4, 8, 200);
  EXPECT_EQ(product.run(w_.data(), x_.data(), d_.data(), &split), CUBLAS_STATUS_INVALID_VALUE);
  const DeviceArray<char> workspace(3 * 4 * 8 * sizeof(float));
  Product::good(product.run(w_.data(), x_.data(), d_.data(), &split, workspace.data(), workspace.size()));
}

// What heuristics say under what a program wants.
class Heuristics : public Algorithms {
 protected:
  Heuristics() { Product::good(cublasLtMatmulPreferenceCreate(&preference_)); }
  ~Heuristics() override { cublasLtMatmulPreferenceDestroy(preference_); }

  template <class Value>
  void want(cublasLtMatmulPreferenceAttributes_t number, Value value) {
    Product::good(cublasLtMatmulPreferenceSetAttribute(preference_, number, &value, sizeof value));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> ask(uint64_t rows = 5) {
    Product product(rows, 8, 200);
    std::vector<cublasLtMatmulHeuristicResult_t> results(8);
    int found = 0;
    Product::good(cublasLtMatmulAlgoGetHeuristic(product.handle, product.description, product.w, product.x, product.d, product.d, preference_, 8,
                                                 results.data(), &found));
    results.resize(static_cast<size_t>(found));
    return results;
  }
  template <class Value>
  static Value get(const cublasLtMatmulHeuristicResult_t& result, cublasLtMatmulAlgoConfigAttributes_t number) {
    Value value{};
    size_t written = 0;
    Product::good(cublasLtMatmulAlgoConfigGetAttribute(&result.algo, number, &value, sizeof value, &written));
    return value;
  }

  cublasLtMatmulPreference_t preference_ = nullptr;
};

TEST_F(Heuristics, OfferAllThatSplitNoSumInAnOrder) {
  want<uint32_t>(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE);
  const auto results = ask();
  ASSERT_EQ(results.size(), 4u);
  const cublasLtMatmulAlgo_t same = algorithm(get<int32_t>(results[0], CUBLASLT_ALGO_CONFIG_ID));
  EXPECT_EQ(first_row(5, nullptr), first_row(5, &same)) << "no algorithm means the first of these";
}

TEST_F(Heuristics, PutASplitSumFirstWhoseBitsAreNeverTheSame) {
  const auto results = ask();
  ASSERT_EQ(results.size(), 5u) << "without a workspace, parts can meet in place only";
  EXPECT_GT(get<int32_t>(results[0], CUBLASLT_ALGO_CONFIG_SPLITK_NUM), 1);
  EXPECT_EQ(get<uint32_t>(results[0], CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME), CUBLASLT_REDUCTION_SCHEME_INPLACE);
  EXPECT_NE(first_row(5, &results[0].algo), first_row(5, &results[0].algo));
  want<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1 << 20);
  const auto more = ask();
  ASSERT_EQ(more.size(), 6u);
  EXPECT_EQ(more[1].workspaceSize, 4 * 5 * 8 * sizeof(float));
}

TEST_F(Heuristics, OfferWhatTheAddressesAllow) {
  want<uint32_t>(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE);
  want<uint32_t>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 4);
  const auto results = ask();
  ASSERT_EQ(results.size(), 2u);
  for (const auto& result : results) EXPECT_LT(get<int32_t>(result, CUBLASLT_ALGO_CONFIG_ID), 2);
  want<uint32_t>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 16);
  EXPECT_EQ(ask().size(), 3u);
}

TEST_F(Heuristics, OfferForManyRowsWhatDoesNotTakeFew) {
  want<uint32_t>(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE);
  const auto results = ask(2048);
  ASSERT_EQ(results.size(), 5u);
  Product few(5, 8, 200);
  cublasLtMatmulHeuristicResult_t answer{};
  EXPECT_EQ(cublasLtMatmulAlgoCheck(few.handle, few.description, few.w, few.x, few.d, few.d, &results[0].algo, &answer), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(few.run(w_.data(), x_.data(), d_.data(), &results[0].algo), CUBLAS_STATUS_NOT_SUPPORTED);
  Product::good(cublasLtMatmulAlgoCheck(few.handle, few.description, few.w, few.x, few.d, few.d, &results[1].algo, &answer));
}

TEST_F(Algorithms, ThatLoadWidelyRefuseOtherAddressesAndSteps) {
  const cublasLtMatmulAlgo_t narrow = algorithm(1), wide = algorithm(3);
  Product product(4, 8, 200);
  EXPECT_EQ(product.run(w_.data(), x_.data() + 1, d_.data(), &wide), CUBLAS_STATUS_NOT_SUPPORTED);
  Product::good(product.run(w_.data(), x_.data() + 1, d_.data(), &narrow));
  Product::good(product.run(w_.data(), x_.data() + 1, d_.data()));
  const int64_t step = 201;
  Product::good(cublasLtMatrixLayoutSetAttribute(product.x, CUBLASLT_MATRIX_LAYOUT_LD, &step, sizeof step));
  EXPECT_EQ(product.run(w_.data(), x_.data(), d_.data(), &wide), CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtMatmulHeuristicResult_t answer{};
  EXPECT_EQ(cublasLtMatmulAlgoCheck(product.handle, product.description, product.w, product.x, product.d, product.d, &wide, &answer),
            CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(CuBlasLt, RefusesAttributesOfTheWrongSizeAndShapesThatDoNotFit) {
  Product product(2, 2, 3);
  const int64_t wide = CUBLAS_OP_T;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(product.description, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide), CUBLAS_STATUS_INVALID_VALUE);
  const uint64_t rows = 4;
  Product::good(cublasLtMatrixLayoutSetAttribute(product.x, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof rows));
  const DeviceArray<float> data(100);
  EXPECT_EQ(product.run(data.data(), data.data(), data.data()), CUBLAS_STATUS_INVALID_VALUE);
  const uint32_t gelu = CUBLASLT_EPILOGUE_GELU;
  product.set(CUBLASLT_MATMUL_DESC_EPILOGUE, gelu);
  EXPECT_EQ(product.run(data.data(), data.data(), data.data()), CUBLAS_STATUS_NOT_SUPPORTED);
}

}  // namespace
}  // namespace switchyard::emulation
