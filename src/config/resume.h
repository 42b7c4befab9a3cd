// What may differ between a run and its continuation.
#pragma once

#include "src/config/config.pb.h"

namespace switchyard {

// The configuration that a resumed run continues with: `asked`, where AUTO and other automatic values have become what
// `stored` (resolved, from the checkpoint) has. train.steps, epochs and patience, checkpoint, eval, log, threads, device, and parallel but
// for expert_replicas and slices, may differ; any other difference throws Error(kUsage) naming the field and both values.
Config resume_config(const Config& stored, const Config& asked);

}  // namespace switchyard
