#include "src/checkpoint/broadcast.h"

#include <cstring>
#include <vector>

#include "src/base/checked.h"

namespace switchyard {

// The length first, as two words, then the bytes, padded to whole words.
void broadcast_text(Communicator& communicator, Call call, std::string& text, int root) {
  int64_t bytes = static_cast<int64_t>(text.size());
  communicator.broadcast(call, Tensor(&bytes, Dtype::kI32, {2}), root);
  std::vector<int32_t> words(static_cast<size_t>(divide_up(bytes, 4)));
  if (communicator.rank() == root && bytes > 0) std::memcpy(words.data(), text.data(), text.size());
  communicator.broadcast(call, Tensor(words.data(), Dtype::kI32, {static_cast<int64_t>(words.size())}), root);
  if (communicator.rank() == root) return;
  text.resize(static_cast<size_t>(bytes));
  if (bytes > 0) std::memcpy(text.data(), words.data(), text.size());
}

}  // namespace switchyard
