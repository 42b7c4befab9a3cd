#include "comm/agree.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace switchyard {
namespace {

// Fixed size, so that one all-gather carries it. Longer sentences are cut.
struct Record {
  int32_t failed = 0;
  int32_t code = 0;
  int32_t length = 0;
  char sentence[500] = {};
};
static_assert(sizeof(Record) == 512);

constexpr char kCut[] = "...";

Record make_record(const Error& error) {
  Record record;
  record.failed = 1;
  record.code = static_cast<int32_t>(error.code());
  const std::string text = error.what();
  const size_t length = std::min(text.size(), sizeof record.sentence);
  std::copy_n(text.begin(), length, record.sentence);
  if (length < text.size()) std::copy_n(kCut, 3, record.sentence + length - 3);
  record.length = static_cast<int32_t>(length);
  return record;
}

}  // namespace

void agree(Communicator& comm, const std::optional<Error>& mine, Call call) {
  const Record own = mine ? make_record(*mine) : Record{};
  const size_t ranks = static_cast<size_t>(comm.size());
  std::vector<Record> all(ranks);
  const std::vector<int64_t> rows(ranks, 1);
  const int64_t words = sizeof(Record) / 4;
  Record copy = own;
  comm.all_gather(call, Tensor(&copy, Dtype::kI32, {1, words}), Tensor(all.data(), Dtype::kI32, {comm.size(), words}), rows);
  const auto failed = std::find_if(all.begin(), all.end(), [](const Record& record) { return record.failed != 0; });
  if (failed == all.end()) return;
  const int rank = static_cast<int>(failed - all.begin());
  std::string sentence(failed->sentence, static_cast<size_t>(failed->length));
  if (comm.size() > 1) sentence = "rank " + std::to_string(rank) + ": " + sentence;
  throw AgreedError(static_cast<ExitCode>(failed->code), sentence, rank);
}

}  // namespace switchyard
