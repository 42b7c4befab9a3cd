// Corpus: text files cut into documents, streamed.
//
// Plain text, gzip and dictzip (which is gzip) are told apart by their first bytes. Cuts are made at ASCII bytes only, so
// a document's encoding is checked by itself. Memory: one document.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Debian's dict-gcide: kGcide, kCp1252Fallback.
inline constexpr const char* kGcidePath = "/usr/share/dictd/gcide.dict.dz";

// Where documents end. A document that is white space only does not count.
enum class Documents : uint8_t {
  kGcide,      // at an empty line before a line that is not indented: the entries of a dictd dictionary
  kLine,       // at every line's end
  kBlankLine,  // at lines that are empty or white space
  kFile,       // each file is one
};

enum class Encoding : uint8_t {
  kUtf8,            // anything else is an error that names the byte
  kCp1252Fallback,  // bytes that are not UTF-8 are read as Windows-1252
};

// "gcide", "line", "blank-line", "file"; "utf-8", "cp1252-fallback". Throw Error(kUsage) for other names.
Documents documents_from(const std::string& name);
Encoding encoding_from(const std::string& name);
const char* name(Documents documents);
const char* name(Encoding encoding);

// The text that stands between two documents: the end-of-document token is its code, and it counts as text in bits per
// byte. Empty for kFile.
std::string_view separator(Documents documents);

struct CorpusOptions {
  std::vector<std::string> paths;  // read in this order
  Documents documents = Documents::kLine;
  Encoding encoding = Encoding::kUtf8;
  int64_t most_document_bytes = int64_t{256} << 20;
  int64_t most_bytes = int64_t{64} << 30;  // of all files, unpacked
};

struct CorpusCounts {
  int64_t documents = 0;
  int64_t bytes = 0;           // read, unpacked
  int64_t replaced_bytes = 0;  // read as Windows-1252
};

// Calls visit(document) for each document in order. The view is valid UTF-8 and lives until visit returns.
// Errors: kInputOutput where a file is missing, not a regular file, or cannot be read; kData where it is damaged, not in the
// encoding, larger than the limits, or a decompression bomb, and where there is no document at all.
CorpusCounts read_documents(const CorpusOptions& options, const std::function<void(std::string_view)>& visit);

// Whether a document belongs to the hold-out: by a hash of its text, so equal documents are on one side, and neither the
// order of documents nor other documents matter. About one in `one_in`; 0: none.
bool held_out(std::string_view document, int64_t one_in);

}  // namespace switchyard
