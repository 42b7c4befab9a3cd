// libswitchyard_cuda.so as the program sees it: opened at run time, by one symbol.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "comm/accelerator.h"
#include "comm/self.h"

namespace switchyard {
namespace {

const AcceleratorPlugin* plugin() {
  void* const library = dlopen(SWITCHYARD_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error(ExitCode::kFailure, dlerror());
  const auto entry = reinterpret_cast<const AcceleratorPlugin* (*)()>(dlsym(library, kAcceleratorEntry));
  if (entry == nullptr) throw Error(ExitCode::kFailure, dlerror());
  return entry();
}

int devices() {
  std::string sentence;
  return plugin()->devices(sentence);
}

TEST(Plugin, IsOfThisVersion) { EXPECT_EQ(plugin()->version, kAcceleratorVersion); }

TEST(Plugin, SaysWhyThereIsNoDevice) {
  setenv("CUDA_EMULATION_DEVICES", "0", 1);  // which a GPU does not mind
  std::string sentence;
  const int found = plugin()->devices(sentence);
  EXPECT_EQ(found == 0, !sentence.empty()) << sentence;
  EXPECT_NE(plugin()->report().find("NCCL\t"), std::string::npos);
  unsetenv("CUDA_EMULATION_DEVICES");
}

TEST(Plugin, ThrowsErrorsThatThisProgramKnows) { EXPECT_THROW(plugin()->open(99), Error); }

TEST(Plugin, OpensADeviceThatComputesAndExchanges) {
  if (devices() == 0) GTEST_SKIP() << "there is no device";
  const std::unique_ptr<Accelerator> accelerator = plugin()->open(0);
  EXPECT_NE(accelerator->description().find("device 0"), std::string::npos) << accelerator->description();
  Backend& backend = accelerator->backend();
  const AcceleratorTransport transport{.sizes = {4096, 4096}, .staged = false, .deadline = 0};
  const std::unique_ptr<Communicator> comm = accelerator->connect(make_self_communicator({}), transport);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Tensor outbox = comm->outbox(OutboxUse::kExchange, Dtype::kF32, 3, 2);
  const Buffer buffer(24, backend.memory());
  const Tensor inbox(buffer.data(), Dtype::kF32, {3, 2}, Device::kCuda);
  backend.copy_from_host(values.data(), Out(outbox));
  const std::vector<Segment> send = {{0, 0, 1}, {0, 1, 2}}, receive = {{0, 2, 1}, {0, 0, 2}};
  comm->wait(comm->all_to_all({"exchange", 0}, outbox, send, inbox, receive, {}));
  std::vector<float> found(6);
  backend.copy_to_host(inbox, found.data());
  EXPECT_EQ(found, (std::vector<float>{3, 4, 5, 6, 1, 2}));
}

}  // namespace
}  // namespace switchyard
