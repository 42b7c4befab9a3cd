// skip TRANSPORT hang|checked [MARK]: ranks of mpirun, the second of which leaves out a barrier that the others issue. With
// "hang" only the watchdog can tell; with "checked" the ranks compare every operation. MARK is for who looks for processes.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "comm/agree.h"
#include "comm/make.h"

namespace switchyard {
namespace {

void say(const std::string& sentence) { std::fprintf(stderr, "switchyard: %s\n", sentence.c_str()); }

void skip(const MpiSession& session, std::string_view transport, bool checked) {
  const Made made = make_communicator(session, {.transport = transport_named(transport), .sizes = {4096, 4096}, .checked = checked, .window = {}});
  Communicator& comm = *made.communicator;
  int64_t value = 1;
  comm.barrier({"first", -1});
  if (comm.rank() != 1) comm.barrier({"second", -1});
  comm.reduce({"third", 5}, {&value, 1}, Reduction::kSum);
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  using namespace switchyard;
  if (argc < 3) return static_cast<int>(ExitCode::kUsage);
  MpiSession session;
  try {
    session.start_watchdog({.deadline = std::chrono::seconds(2), .patience = std::chrono::milliseconds(500), .say = say, .leave = {}});
    skip(session, argv[1], std::string_view(argv[2]) == "checked");
  } catch (const AgreedError& error) {
    if (session.rank() == 0) say(error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
