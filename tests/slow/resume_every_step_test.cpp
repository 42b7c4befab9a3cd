// Stop at every step of forty, on every ordered pair of 1, 2 and 4 ranks: the final state is always the same.
#include <gtest/gtest.h>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

TEST(ResumeSlow, EveryStepAndEveryPairOfRanksEndsInTheSameState) {
  const TinyJob job = tiny_job();
  constexpr int64_t kSteps = 40;
  std::string final_digest;
  for (const int from : {1, 2, 4}) {
    const TemporaryFolder folder;
    const std::vector<std::string> digests = train_saving_every_step(job, from, kSteps, folder.path());
    if (final_digest.empty()) final_digest = digests.back();
    EXPECT_EQ(digests.back(), final_digest) << "undisturbed on " << from << " ranks";
    for (const int to : {1, 2, 4}) {
      for (int64_t k = 1; k < kSteps; ++k) {
        ASSERT_EQ(resume_and_train(job, to, folder.path(), k, kSteps), final_digest) << "saved on " << from << " ranks at step " << k << ", resumed on " << to;
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
