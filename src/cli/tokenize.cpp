// switchyard tokenize: text files become a folder of tokens that `data.corpus` can name.
#include "src/data/tokenize.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "src/cli/commands.h"

namespace switchyard {
namespace {

constexpr const char* kGcide = "/usr/share/dictd/gcide.dict.dz";  // Debian's dict-gcide, the corpus of the demonstration

struct Arguments {
  std::vector<std::string> files;
  std::string output, documents, encoding, tokenizer = "sentencepiece";
  int64_t vocabulary = kDefaultVocabulary, one_in = 50;
  int threads = 0;
  bool json = false;
};

TokenizeOptions options_of(const Arguments& arguments) {
  const bool gcide = arguments.files.empty();
  if (!gcide && arguments.output.empty()) throw Error(ExitCode::kUsage, "tokenize needs --output DIR when files are named; see switchyard tokenize --help");
  TokenizeOptions options;
  options.corpus.paths = gcide ? std::vector<std::string>{kGcide} : arguments.files;
  options.corpus.documents = documents_from(!arguments.documents.empty() ? arguments.documents : gcide ? "gcide" : "line");
  options.corpus.encoding = encoding_from(!arguments.encoding.empty() ? arguments.encoding : gcide ? "cp1252-fallback" : "utf-8");
  options.kind = arguments.tokenizer == "bytes" ? TokenizerKind::kBytes : TokenizerKind::kSentencePiece;
  if (arguments.tokenizer != "bytes" && arguments.tokenizer != "sentencepiece") options.tokenizer = arguments.tokenizer;
  options.vocabulary = arguments.vocabulary;
  options.one_in = arguments.one_in;
  options.threads = arguments.threads > 0 ? arguments.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  options.output = !arguments.output.empty() ? arguments.output : "data/gcide";
  return options;
}

nlohmann::ordered_json split_json(const TokenFileInfo& info) { return {{"documents", info.documents}, {"tokens", info.tokens}, {"bytes", info.source_bytes}}; }

std::string split_text(const TokenFileInfo& info) {
  const double bytes = info.tokens == 0 ? 0 : static_cast<double>(info.source_bytes) / static_cast<double>(info.tokens);
  return fmt::format("{:>9} documents {:>12} tokens {:>12} bytes {:>6.2f} bytes per token", info.documents, info.tokens, info.source_bytes, bytes);
}

ExitCode run(const Arguments& arguments) {
  const TokenizeOptions options = options_of(arguments);
  const TokenizeReport report = tokenize(options);
  if (arguments.json) {
    const nlohmann::ordered_json json = {{"output", options.output},
                                         {"vocabulary", report.train.vocabulary},
                                         {"tokenizer", report.tokenizer.hex()},
                                         {"train", split_json(report.train)},
                                         {"heldout", split_json(report.heldout)},
                                         {"bytes_read", report.corpus.bytes},
                                         {"replaced_bytes", report.corpus.replaced_bytes},
                                         {"tokenizer_seconds", report.tokenizer_seconds},
                                         {"encode_seconds", report.encode_seconds}};
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return ExitCode::kOk;
  }
  fmt::print("train     {}\nheld out  {}\n", split_text(report.train), split_text(report.heldout));
  if (report.corpus.replaced_bytes > 0) fmt::print("{} bytes were not UTF-8 and were read as Windows-1252\n", report.corpus.replaced_bytes);
  fmt::print("{} tokens of vocabulary; tokenizer made in {:.1f} s, text encoded in {:.1f} s\nwritten to {}: use it with --set data.corpus={}\n",
             report.train.vocabulary, report.tokenizer_seconds, report.encode_seconds, options.output, options.output);
  return ExitCode::kOk;
}

}  // namespace

void add_tokenize(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("tokenize", "Turn text into tokens, with a tokenizer and held-out documents");
  command.add_option("FILES", arguments->files, "Text files, plain or gzip; none: Debian's dict-gcide, with the settings that fit it")->type_name("FILE");
  command.add_option("-o,--output", arguments->output, "Folder to be made; data/gcide if no file is named")->type_name("DIR");
  command.add_option("--documents", arguments->documents, "Where documents end: gcide, line (default), blank-line, file")->type_name("HOW");
  command.add_option("--encoding", arguments->encoding, "utf-8 (default), or cp1252-fallback for bytes that are not")->type_name("NAME");
  command.add_option("--tokenizer", arguments->tokenizer, "sentencepiece (trained on the training documents), bytes, or a tokenizer file")
      ->type_name("KIND")
      ->capture_default_str();
  command.add_option("--vocabulary", arguments->vocabulary, "Tokens that sentencepiece learns")->type_name("N")->capture_default_str();
  command.add_option("--hold-out", arguments->one_in, "Hold out one document in so many, by a hash of its text; 0: none")
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--threads", arguments->threads, "0: one for each core; the result does not depend on it")->type_name("N")->capture_default_str();
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run(*arguments); }});
}

}  // namespace switchyard
