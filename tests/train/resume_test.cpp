// A checkpoint belongs to the model, not to the topology.
#include <gtest/gtest.h>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

// By induction over k this is resuming at any k and training to the end; the slow test does that too.
TEST(Resume, OneStepFromEveryCheckpointOnEveryPairOfRanksIsTheUndisturbedStep) {
  const TinyJob job = tiny_job();
  constexpr int64_t kSteps = 40;
  for (const int from : {1, 2, 4}) {
    const TemporaryFolder folder;
    const std::vector<std::string> digests = train_saving_every_step(job, from, kSteps, folder.path());
    for (int64_t k = 1; k < kSteps; ++k) {
      // Every pair of ranks meets every k within three neighbouring steps.
      const int to = std::vector<int>{1, 2, 4}[static_cast<size_t>(k % 3)];
      EXPECT_EQ(resume_and_train(job, to, folder.path(), k, k + 1), digests[static_cast<size_t>(k) + 1]) << "saved on " << from << " ranks at step " << k << ", resumed on " << to;
    }
  }
}

}  // namespace
}  // namespace switchyard
