// Stopping and resuming the tiny job on other numbers of ranks.
#pragma once

#include <string>
#include <vector>

#include "tests/train/tiny_helper.h"

namespace switchyard {

// A folder that is removed when it goes out of scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Trains the undisturbed run on `ranks` ranks, saving every step k < steps under <folder>/<k>. Answers with the state
// digests after 0, 1, ..., steps steps.
std::vector<std::string> train_saving_every_step(const TinyJob& job, int ranks, int64_t steps, const std::string& folder);

// Loads <folder>/<k> on `ranks` ranks, trains on to `until` steps, and answers with the state digest.
std::string resume_and_train(const TinyJob& job, int ranks, const std::string& folder, int64_t k, int64_t until);

}  // namespace switchyard
