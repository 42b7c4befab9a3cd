#include "tests/config/config_helper.h"

#include "src/config/load.h"

namespace switchyard {

Config valid_config() {
  return parse_config(R"(
    model { vocabulary: 64 width: 16 heads: 2 feed_forward: 32 blocks: 2 sequence_length: 8 moe { experts: 4 } }
    data { corpus: "builtin" }
    train { steps: 10 lanes: 4 sequences: 2 }
  )",
                      "valid");
}

Config valid_config_with(const std::vector<std::string>& overrides) {
  Config config = valid_config();
  apply_overrides(config, overrides);
  return config;
}

}  // namespace switchyard
