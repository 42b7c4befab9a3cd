#include "tests/train/resume_helper.h"

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "src/checkpoint/checkpoint.h"

namespace switchyard {

TemporaryFolder::TemporaryFolder() {
  char folder[] = "/tmp/switchyard-resume-XXXXXX";
  check(mkdtemp(folder) != nullptr, "tests: no temporary folder");
  path_ = folder;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> train_saving_every_step(const TinyJob& job, int ranks, int64_t steps, const std::string& folder) {
  for (int64_t k = 1; k < steps; ++k) std::filesystem::create_directories(folder + "/" + std::to_string(k));
  std::vector<std::string> digests;
  run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
    rank.trainer().initialise(1);
    const auto note = [&](std::string digest) {
      if (communicator.rank() == 0) digests.push_back(std::move(digest));
    };
    note(rank.digest());
    for (int64_t k = 1; k <= steps; ++k) {
      rank.train(k);
      note(rank.digest());
      if (k == steps) break;
      const Trainer::Progress& progress = rank.trainer().progress();
      StateInfo info;
      info.step = info.cursor = progress.step;
      info.skips = progress.skips;
      info.tokens = progress.tokens;
      info.seed = job.trainer.train.seed;
      save_checkpoint(communicator, folder + "/" + std::to_string(k), rank.trainer().state(), info, {});
    }
  });
  return digests;
}

std::string resume_and_train(const TinyJob& job, int ranks, const std::string& folder, int64_t k, int64_t until) {
  std::string digest;
  run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
    State state = rank.trainer().state();
    const auto loaded = load_checkpoint(communicator, folder + "/" + std::to_string(k), state, {});
    check(loaded.has_value(), "tests: the checkpoint is missing");
    rank.trainer().resume({loaded->info.step, loaded->info.skips, loaded->info.tokens});
    rank.train(until);
    const std::string own = rank.digest();
    if (communicator.rank() == 0) digest = own;
  });
  return digest;
}

}  // namespace switchyard
