// Every defect is noticed in the builds in which it should be. The three builds are needed: none covers the others.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace switchyard::emulation {
namespace {

// What a build says of a defect; null where it cannot notice it.
struct Expected {
  const char* name;
  const char* plain;
  const char* addresses;  // AddressSanitizer and UndefinedBehaviorSanitizer
  const char* races;      // ThreadSanitizer
};

constexpr const char* kDiffer = "noticed: results differ between schedules";
constexpr const char* kRace = "ThreadSanitizer: data race";
constexpr const char* kAddress = "AddressSanitizer";
constexpr const char* kUndefined = "runtime error";
constexpr const char* kNan = "noticed: the result is NaN";

constexpr Expected kExpected[] = {
    {"global_one_past_the_end", nullptr, kAddress, nullptr},
    {"global_one_before", nullptr, kAddress, nullptr},
    {"global_far_past_the_end", "[signal 11]", kAddress, "ThreadSanitizer: SEGV"},
    {"dynamic_shared_past_the_end", nullptr, kAddress, nullptr},
    {"shared_member_past_its_end", nullptr, kUndefined, nullptr},
    {"misaligned_pair", nullptr, kUndefined, nullptr},
    {"index_overflow", nullptr, kUndefined, nullptr},
    {"missing_barrier", kDiffer, kDiffer, kRace},
    {"missing_barrier_before_the_next_round", kDiffer, kDiffer, kRace},
    {"two_blocks_one_cell", kDiffer, kDiffer, kRace},
    {"counter_without_atomics", nullptr, nullptr, kRace},
    {"shuffle_as_a_fence", nullptr, nullptr, kRace},
    {"float_atomics", kDiffer, kDiffer, kDiffer},
    {"divergent_barrier", "error 719: divergent __syncthreads: thread (32,0,0) of block (0,0,0) at", "divergent __syncthreads", "divergent __syncthreads"},
    {"thread_leaves_before_barrier", "left the kernel", "left the kernel", "left the kernel"},
    {"thread_leaves_before_shuffle", "left the kernel while its warp waits for it at", "left the kernel", "left the kernel"},
    {"shuffle_from_outside_the_mask", "lane 15 reads lane 16, which is not in the mask", "not in the mask", "not in the mask"},
    {"incomplete_syncwarp", "deadlock: every thread of the block waits", "deadlock", "deadlock"},
    {"uninitialised_shared_memory", kNan, kNan, kNan},
    {"uninitialised_device_memory", kNan, kNan, kNan},
    {"host_reads_device_memory", "[signal 11]", "AddressSanitizer: SEGV", "ThreadSanitizer: SEGV"},
    {"kernel_gets_host_pointer", "error 1: cudaErrorInvalidValue", "error 1:", "error 1:"},
    {"kernel_gets_freed_pointer", "error 1: cudaErrorInvalidValue", "error 1:", "error 1:"},
    {"copy_past_the_end", "error 1: cudaErrorInvalidValue", "error 1:", "error 1:"},
    {"copy_of_the_wrong_kind", "error 21: cudaErrorInvalidMemcpyDirection", "error 21:", "error 21:"},
    {"missing_stream_synchronisation", "noticed: a stale value", "noticed: a stale value", "noticed: a stale value"},
    {"missing_event_wait", "noticed: a wrong value", "noticed: a wrong value", "noticed: a wrong value"},
    {"too_many_threads", "error 9: cudaErrorInvalidConfiguration", "error 9:", "error 9:"},
    {"too_much_shared_memory", "error 1: cudaErrorInvalidValue", "error 1:", "error 1:"},
    {"second_host_thread", "a second thread of this process calls CUDA", "a second thread", "a second thread"},
};

const char* in_this_build(const Expected& expected) {
#if defined(__SANITIZE_ADDRESS__)
  return expected.addresses;
#elif defined(__SANITIZE_THREAD__)
  return expected.races;
#else
  return expected.plain;
#endif
}

std::vector<Expected> noticed_here() {
  std::vector<Expected> noticed;
  for (const Expected& expected : kExpected) {
    if (in_this_build(expected) != nullptr) noticed.push_back(expected);
  }
  return noticed;
}

// Output and errors of the process, and the signal that ended it.
std::string commit(const std::string& defect) {
  const std::string command = std::string("ASAN_OPTIONS=detect_leaks=0 ") + SWITCHYARD_DEFECTS + " " + defect + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::string output;
  std::array<char, 4096> chunk;
  for (size_t read = 0; (read = fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) output.append(chunk.data(), read);
  const int status = pclose(pipe);
  const int by_shell = WIFEXITED(status) ? WEXITSTATUS(status) - 128 : 0;  // the shell says 128 + signal
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : by_shell;
  return signal > 0 ? output + "[signal " + std::to_string(signal) + "]" : output;
}

class Defects : public testing::TestWithParam<Expected> {};

TEST_P(Defects, IsNoticed) {
  const std::string output = commit(GetParam().name);
  EXPECT_NE(output.find(in_this_build(GetParam())), std::string::npos) << "expected: " << in_this_build(GetParam()) << "\nfound: " << output;
}

INSTANTIATE_TEST_SUITE_P(Each, Defects, testing::ValuesIn(noticed_here()), [](const auto& defect) { return std::string(defect.param.name); });

}  // namespace
}  // namespace switchyard::emulation
