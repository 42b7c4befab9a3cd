#include "kernels/cpu/matmul_engine.h"

#include "kernels/cpu/team.h"
#include "kernels/rng.h"
#include "src/base/error.h"

namespace switchyard::cpu {
namespace {

// The number of rows for which layouts are asked.
constexpr int64_t kUsualRows = 128;
// Measured: up to here no number of rows makes the library sum a row in another order (on AMX, bf16 from 3072 on does).
constexpr int64_t kLongInner = 2048;

dnnl::memory::data_type library_type(Dtype dtype) { return dtype == Dtype::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32; }

std::string describe_shape(const MatmulShape& s) {
  return std::string(name(s.dtype)) + " [" + std::to_string(s.m) + ", " + std::to_string(s.k) + "] x [" + std::to_string(s.k) + ", " + std::to_string(s.n) +
         "]";
}

// Reads a description of B [k, n] as one of the two layouts that the packing loops know.
PackLayout read_layout(const dnnl::memory::desc& description, const MatmulShape& shape) {
  const dnnl_memory_desc_t& d = description.data;
  const dnnl_blocking_desc_t& blocking = d.format_desc.blocking;
  PackLayout layout;
  layout.dtype = shape.dtype;
  layout.k = shape.k;
  layout.n = shape.n;
  layout.bytes = static_cast<int64_t>(description.get_size());
  if (blocking.inner_nblks == 0) {
    check(blocking.strides[1] == 1 && blocking.strides[0] == shape.n, "matmul: the library asks for a plain layout that is not by rows");
    layout.n_block = 64;
    return layout;
  }
  const int blocks = blocking.inner_nblks;
  const bool known = (blocks == 2 || (blocks == 3 && blocking.inner_blks[2] == 2 && blocking.inner_idxs[2] == 0)) && blocking.inner_idxs[0] == 0 &&
                     blocking.inner_idxs[1] == 1 && blocking.inner_blks[1] % 16 == 0;
  check(known, "matmul: the library asks for a packed layout that is not by column blocks");
  layout.blocked = true;
  layout.interleave = blocks == 3 ? 2 : 1;
  layout.k_block = blocking.inner_blks[0] * layout.interleave;
  layout.n_block = blocking.inner_blks[1];
  const int64_t block = layout.k_block * layout.n_block;
  check(d.padded_dims[0] == layout.padded_k() && d.padded_dims[1] == round_up(shape.n, layout.n_block) &&
            (blocking.strides[0] == block || d.padded_dims[0] == layout.k_block) &&
            (blocking.strides[1] == layout.padded_k() * layout.n_block || d.padded_dims[1] == layout.n_block),
        "matmul: the library asks for a packed layout whose column blocks are not outermost");
  return layout;
}

}  // namespace

bool has_native_bf16() {
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kNeeded) == kNeeded;
}

bool has_amx() {
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kNeeded) == kNeeded;
}

size_t MatmulShapeHash::operator()(const MatmulShape& s) const {
  uint64_t hash = static_cast<uint64_t>(s.dtype) | static_cast<uint64_t>(s.result) << 4 | static_cast<uint64_t>(s.add) << 8;
  for (const int64_t extent : {s.m, s.k, s.n}) hash = mix64(hash ^ static_cast<uint64_t>(extent));
  return hash;
}

Matmul::Matmul(const dnnl::matmul::primitive_desc& description, const dnnl::engine& engine, int threads)
    : primitive_(description), scratch_bytes_(static_cast<int64_t>(description.scratchpad_desc().get_size())), arguments_(static_cast<size_t>(threads)) {
  for (Arguments& a : arguments_) {
    const dnnl::memory::desc kinds[] = {description.src_desc(), description.weights_desc(), description.dst_desc(), description.scratchpad_desc()};
    constexpr int kNames[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    for (size_t i = 0; i < 4; ++i) {
      a.memories[i] = dnnl::memory(kinds[i], engine, DNNL_MEMORY_NONE);
      a.list[i] = {kNames[i], a.memories[i].get()};
    }
    a.stream = dnnl::stream(engine);
  }
}

void Matmul::run(int thread, const void* a, const void* b, void* c, void* scratch) {
  Arguments& arguments = arguments_[static_cast<size_t>(thread)];
  const void* places[] = {a, b, c, scratch};
  for (size_t i = 0; i < 4; ++i) {
    const dnnl_status_t status = dnnl_memory_set_data_handle(arguments.memories[i].get(), const_cast<void*>(places[i]));
    check(status == dnnl_success, "matmul: the library refused an operand");
  }
  const dnnl_status_t status = dnnl_primitive_execute(primitive_.get(), arguments.stream.get(), 4, arguments.list.data());
  check(status == dnnl_success, "matmul: the library failed to multiply");
}

MatmulEngine::MatmulEngine(int threads) : threads_(threads), engine_(dnnl::engine::kind::cpu, 0), native_bf16_(has_native_bf16()) {}

dnnl::matmul::primitive_desc MatmulEngine::describe(const MatmulShape& s, const dnnl::memory::desc& b) const {
  using Tag = dnnl::memory::format_tag;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.add) {
    dnnl::post_ops after;
    after.append_sum(1.0f);
    attributes.set_post_ops(after);
  }
  try {
    const dnnl::memory::desc a({s.m, s.k}, library_type(s.dtype), Tag::ab), c({s.m, s.n}, library_type(s.result), Tag::ab);
    dnnl::matmul::primitive_desc found(dnnl::matmul::desc(a, b, c), attributes, engine_);
    const std::string implementation = found.impl_info_str();
    if (implementation.starts_with("ref")) {
      throw InternalError("expected an optimised product " + describe_shape(s) + ", the matrix library offers " + implementation);
    }
    return found;
  } catch (const dnnl::error& error) {
    throw InternalError("the matrix library refused the product " + describe_shape(s) + ": " + error.what());
  }
}

const MatmulEngine::Operand& MatmulEngine::operand(Dtype dtype, int64_t k, int64_t n) {
  const MatmulShape shape{dtype, Dtype::kF32, kUsualRows, k, n, false};
  const auto found = operands_.find(shape);
  if (found != operands_.end()) return found->second;
  check(dtype_for(dtype) == dtype && k > 0 && n > 0, "matmul: expected positive extents and a dtype that the processor multiplies");
  const OneThread one;
  const auto description = describe(shape, dnnl::memory::desc({k, n}, library_type(dtype), dnnl::memory::format_tag::any));
  Operand made{read_layout(description.weights_desc(), shape), description.weights_desc(), description.impl_info_str()};
  return operands_.emplace(shape, std::move(made)).first->second;
}

bool MatmulEngine::rows_may_vary(Dtype dtype, int64_t k, int64_t n) {
  return operand(dtype, k, n).layout.blocked && k <= kLongInner && k % 64 == 0 && n % 64 == 0;
}

std::string MatmulEngine::implementation(const MatmulShape& shape) {
  const OneThread one;
  return describe(shape, operand(shape.dtype, shape.k, shape.n).description).impl_info_str();
}

Matmul& MatmulEngine::find(const MatmulShape& shape) {
  const auto found = primitives_.find(shape);
  if (found != primitives_.end()) return *found->second;
  const Operand& b = operand(shape.dtype, shape.k, shape.n);
  const OneThread one;
  const auto description = describe(shape, b.description);
  if (description.impl_info_str() != b.implementation) {
    throw InternalError("expected the product " + describe_shape(shape) + " by " + b.implementation + ", the matrix library offers " +
                        description.impl_info_str());
  }
  return *primitives_.emplace(shape, std::make_unique<Matmul>(description, engine_, threads_)).first->second;
}

}  // namespace switchyard::cpu
