// SentencePiece carries a Protobuf of its own, older than the system's. Linked naively, one of them works on the other's
// memory. These tests use both in one process; exported_symbols.sh looks at the executable.
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>

#include "src/data/tokenizer.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

using google::protobuf::FileDescriptorProto;
using google::protobuf::TextFormat;

void expect_protobuf_works() {
  FileDescriptorProto message;
  ASSERT_TRUE(
      TextFormat::ParseFromString("name: 'x.proto' message_type { name: 'M' field { name: 'f' number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 } }", &message));
  EXPECT_EQ(message.message_type(0).field(0).name(), "f");
  FileDescriptorProto copy;
  ASSERT_TRUE(copy.ParseFromString(message.SerializeAsString()));
  std::string text;
  ASSERT_TRUE(TextFormat::PrintToString(copy, &text));
  EXPECT_NE(text.find("TYPE_INT64"), std::string::npos);
}

TEST(Link, ProtobufAndSentencePieceLiveInOneProcess) {
  expect_protobuf_works();
  const auto tokenizer = train_sentencepiece([](const std::function<void(std::string_view)>& visit) { visit(synthetic_text(5000, 4)); }, 512);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("stone and water")), "stone and water");
  expect_protobuf_works();
}

}  // namespace
}  // namespace switchyard
