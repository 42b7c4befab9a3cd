// Builders: from messages to the plain structs of the floors below, so that nothing there sees protobuf. They expect a
// configuration that validate() has passed.
#pragma once

#include <string>

#include "src/config/config.pb.h"
#include "src/data/batches.h"
#include "src/layers/context.h"
#include "src/model/options.h"
#include "src/optim/options.h"
#include "src/train/options.h"

namespace switchyard {

ModelOptions model_options(const Config& config);
OptimizerOptions optimizer_options(const Config& config);
ScheduleOptions schedule_options(const Config& config);
TrainOptions train_options(const Config& config);
BatchOptions batch_options(const Config& config);
// Throws InternalError while precision is AUTO.
Precision precision(const Config& config);

// model.head_width where it was left at 0; train.steps without a bound where epochs were given and steps were not.
void fill_automatic(Config& config);

// Makes automatic values definite and every default explicit: those of fill_automatic, what a preset and a router stand for
// (preset.h), and precision AUTO, which becomes BF16 where
// `fast_bf16` (the device multiplies it faster than F32) and F32 elsewhere. threads and transport keep theirs: results
// do not depend on them, and they are settled anew by every start.
Config resolve_config(const Config& config, bool fast_bf16);

// "lm_small" for "configs/lm_small.textproto": the default run directory is runs/<name>.
std::string config_name(const std::string& path);

}  // namespace switchyard
