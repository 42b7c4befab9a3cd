// The shared memory of the block that runs: one piece, from which variables are cut as the block first names them, with
// room between them that AddressSanitizer guards.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "tests/cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace switchyard::emulation {
namespace {

constexpr size_t kPieceBytes = 1 << 20;  // what a block may have, and the guards
constexpr size_t kStaticLimit = 48 * 1024;
constexpr size_t kGuardBytes = 64;
constexpr unsigned char kFill = 0xff;  // NaN as float and as bfloat16, -1 as int

struct SharedPiece {
  std::byte* begin = nullptr;
  size_t used = kPieceBytes;  // by the last block
  size_t of_variables = 0;
  void* dynamic = nullptr;
};

SharedPiece& piece() {
  static SharedPiece the_piece;
  return the_piece;
}

void fill(std::byte* begin, size_t bytes) {
  if constexpr (sanitizers::kRaceDetection) {
    // A new mapping, so that what earlier blocks did is forgotten; filled by hand, as memset itself is watched.
    void* mapped = mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    for (size_t i = 0; i < bytes; ++i) reinterpret_cast<volatile unsigned char*>(begin)[i] = kFill;
  } else {
    std::fill_n(reinterpret_cast<unsigned char*>(begin), bytes, kFill);
  }
}

void* cut(size_t bytes, size_t alignment) {
  SharedPiece& shared = piece();
  const size_t begin = (shared.used + kGuardBytes + alignment - 1) / alignment * alignment;
  shared.used = begin + bytes;
  std::byte* address = shared.begin + begin;
  sanitizers::unpoison(address, bytes);
  if constexpr (!sanitizers::kRaceDetection) fill(address, bytes);
  return address;
}

}  // namespace

void begin_block_memory() {
  SharedPiece& shared = piece();
  if (shared.begin == nullptr) {
    void* mapped = mmap(nullptr, kPieceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    shared.begin = static_cast<std::byte*>(mapped);
  }
  if constexpr (sanitizers::kRaceDetection) fill(shared.begin, (shared.used + 4095) / 4096 * 4096);
  sanitizers::poison(shared.begin, shared.used);
  shared.used = 0;
  shared.of_variables = 0;
  // Guarded exactly at the size that the launch asked for.
  shared.dynamic = cut(engine().shape->shared_bytes, 128);
}

void* shared_variable(SharedVariable& variable) {
  const sanitizers::Unwatched unwatched;
  if (variable.block != engine().block_serial) {
    piece().of_variables += variable.size;
    if (piece().of_variables > kStaticLimit) fault("%zu bytes of static shared memory: a block has %zu", piece().of_variables, kStaticLimit);
    variable.address = cut(variable.size, std::max<size_t>(16, variable.alignment));
    variable.block = engine().block_serial;
  }
  return variable.address;
}

void* dynamic_shared_memory() { return piece().dynamic; }

}  // namespace switchyard::emulation
