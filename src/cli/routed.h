// A text sent through a trained model, and where its routers sent each token: what the report shows.
#pragma once

#include <cstdint>
#include <string>

#include "src/cli/trained.h"
#include "src/report/routed_text.h"

namespace switchyard {

// The first `tokens` tokens of the held-out text, or of `text_file` (for a classifier: of the texts that are its lines), routed
// at evaluation. On one rank. Throws Error: those of files, kData where there is no text, or it is not UTF-8.
RoutedText route_text(Trained& trained, const std::string& text_file, int64_t tokens);

}  // namespace switchyard
