// Names for the hooks of AddressSanitizer and ThreadSanitizer; empty where the sanitizer is off.
//
// The emulation itself is compiled without ThreadSanitizer, which watches kernels and tests only; the build says with
// SWITCHYARD_EMULATION_TSAN that they are watched.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(SWITCHYARD_EMULATION_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace switchyard::emulation::sanitizers {

#if defined(SWITCHYARD_EMULATION_TSAN)
inline constexpr bool kRaceDetection = true;
#else
inline constexpr bool kRaceDetection = false;
#endif

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressChecks = true;
#else
inline constexpr bool kAddressChecks = false;
#endif

// An access to [begin, begin + size) is an error until unpoison.
inline void poison([[maybe_unused]] const void* begin, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin, size);
#endif
}

inline void unpoison([[maybe_unused]] const void* begin, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, size);
#endif
}

// What a thread did before release happens before what another does after acquire of the same token.
inline void release([[maybe_unused]] void* token) {
#if defined(SWITCHYARD_EMULATION_TSAN)
  __tsan_release(token);
#endif
}

inline void acquire([[maybe_unused]] void* token) {
#if defined(SWITCHYARD_EMULATION_TSAN)
  __tsan_acquire(token);
#endif
}

inline void stop_watching() {
#if defined(SWITCHYARD_EMULATION_TSAN)
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

inline void watch_again() {
#if defined(SWITCHYARD_EMULATION_TSAN)
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

// The emulation's own books, which all CUDA threads write, even through memcpy and new, are no race between them.
class Unwatched {
 public:
  Unwatched() { stop_watching(); }
  ~Unwatched() { watch_again(); }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace switchyard::emulation::sanitizers
