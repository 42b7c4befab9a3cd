// switchyard tokenize: text, or labelled texts, become a folder of tokens that `data.corpus` can name.
#include "src/data/tokenize.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "src/cli/commands.h"
#include "src/cli/labelled_report.h"
#include "src/data/tokenize_labelled.h"

namespace switchyard {
namespace {

constexpr int64_t kDocumentHoldOut = 50;

struct Arguments {
  std::vector<std::string> files, labelled, heldout;
  std::string output, documents, encoding, tokenizer, format = "auto", label_column, text_column;
  std::optional<int64_t> vocabulary, one_in;
  int threads = 0;
  bool header = false, json = false;
};

int threads_of(const Arguments& arguments) {
  return arguments.threads > 0 ? arguments.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

TokenizeOptions options_of(const Arguments& arguments) {
  const bool gcide = arguments.files.empty();
  if (!gcide && arguments.output.empty()) throw Error(ExitCode::kUsage, "tokenize needs --output DIR when files are named; see switchyard tokenize --help");
  TokenizeOptions options;
  options.corpus.paths = gcide ? std::vector<std::string>{kGcidePath} : arguments.files;
  options.corpus.documents = documents_from(!arguments.documents.empty() ? arguments.documents : gcide ? "gcide" : "line");
  options.corpus.encoding = encoding_from(!arguments.encoding.empty() ? arguments.encoding : gcide ? "cp1252-fallback" : "utf-8");
  const TokenizerChoice choice = tokenizer_choice(arguments.tokenizer.empty() ? "sentencepiece" : arguments.tokenizer);
  if (choice.kind == TokenizerKind::kWords) {
    throw Error(ExitCode::kUsage, "words are made from labelled texts (--labelled); a language model's corpus needs sentencepiece or bytes");
  }
  options.kind = choice.kind;
  options.tokenizer = choice.file;
  options.vocabulary = arguments.vocabulary.value_or(kDefaultVocabulary);
  options.one_in = arguments.one_in.value_or(kDocumentHoldOut);
  options.threads = threads_of(arguments);
  options.output = !arguments.output.empty() ? arguments.output : "data/gcide";
  return options;
}

LabelledTokenizeOptions labelled_options_of(const Arguments& arguments) {
  if (arguments.output.empty()) throw Error(ExitCode::kUsage, "tokenize --labelled needs --output DIR; see switchyard tokenize --help");
  if (!arguments.files.empty() || !arguments.documents.empty()) {
    throw Error(ExitCode::kUsage, "tokenize takes labelled texts (--labelled) or FILES with --documents, not both; name one of them");
  }
  if (!arguments.heldout.empty() && arguments.one_in) {
    throw Error(ExitCode::kUsage, "tokenize holds out the examples of --heldout or one in --hold-out, not both; name one of them");
  }
  LabelledTokenizeOptions options;
  options.source.paths = arguments.labelled;
  options.source.format = labelled_format_from(arguments.format);
  options.source.label_column = arguments.label_column;
  options.source.text_column = arguments.text_column;
  options.source.header = arguments.header;
  options.source.encoding = encoding_from(arguments.encoding.empty() ? "utf-8" : arguments.encoding);
  options.heldout = arguments.heldout;
  const TokenizerChoice choice = tokenizer_choice(arguments.tokenizer.empty() ? "words" : arguments.tokenizer);
  options.kind = choice.kind;
  options.tokenizer = choice.file;
  options.vocabulary = arguments.vocabulary.value_or(choice.kind == TokenizerKind::kWords ? kDefaultWords : kDefaultVocabulary);
  options.one_in = arguments.one_in.value_or(kDefaultExampleHoldOut);
  options.threads = threads_of(arguments);
  options.output = arguments.output;
  return options;
}

nlohmann::ordered_json split_json(const TokenFileInfo& info) { return {{"documents", info.documents}, {"tokens", info.tokens}, {"bytes", info.source_bytes}}; }

std::string split_text(const TokenFileInfo& info) {
  const double bytes = info.tokens == 0 ? 0 : static_cast<double>(info.source_bytes) / static_cast<double>(info.tokens);
  return fmt::format("{:>9} documents {:>12} tokens {:>12} bytes {:>6.2f} bytes per token", info.documents, info.tokens, info.source_bytes, bytes);
}

ExitCode run_labelled(const Arguments& arguments) {
  const LabelledTokenizeOptions options = labelled_options_of(arguments);
  print_report(tokenize_labelled(options), options.output, arguments.json);
  return ExitCode::kOk;
}

ExitCode run(const Arguments& arguments) {
  if (!arguments.labelled.empty()) return run_labelled(arguments);
  if (!arguments.heldout.empty()) throw Error(ExitCode::kUsage, "--heldout names labelled texts, which --labelled must name, too");
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
  command
      .add_option(
          "--tokenizer", arguments->tokenizer,
          "sentencepiece (trained on the training documents; the default for FILES), words (the default for labelled texts), bytes, or a tokenizer file")
      ->type_name("KIND");
  command.add_option("--vocabulary", arguments->vocabulary, "Tokens that sentencepiece (8192) or words (20000) have")->type_name("N");
  command.add_option("--hold-out", arguments->one_in, "Hold out one document in so many (50), or one labelled text (10), by a hash of its text; 0: none")
      ->type_name("N");
  command.add_option("--labelled", arguments->labelled, "Labelled texts: .tsv, .csv, .jsonl, plain or gzip, or a folder with one folder for each class")
      ->type_name("PATH");
  command.add_option("--heldout", arguments->heldout, "Labelled texts to be held out, instead of a part of --labelled")->type_name("PATH");
  command.add_option("--format", arguments->format, "Of files of labelled texts: auto (by name), tsv, csv, jsonl")->type_name("NAME")->capture_default_str();
  command.add_option("--label-column", arguments->label_column, "Name or number of the labels' column (label, else 1)")->type_name("COLUMN");
  command.add_option("--text-column", arguments->text_column, "Name or number of the texts' column (text, else 2)")->type_name("COLUMN");
  command.add_flag("--header", arguments->header, "The first row of a table holds names; found out if they are label and text");
  command.add_option("--threads", arguments->threads, "0: one for each core; the result does not depend on it")->type_name("N")->capture_default_str();
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run(*arguments); }});
}

}  // namespace switchyard
