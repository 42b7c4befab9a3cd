#include "src/data/labelled_batches.h"
#include "src/data/words.h"
#include "tests/data/batch_rows.h"
#include "tests/data/data_helper.h"

namespace switchyard {
namespace {

// What is predicted on must look as what was trained on.
TEST(TextBatch, EncodesPadsAndCutsAsBatchesOfExamplesDo) {
  const WordsTokenizer tokenizer({"one", "two", "three", "four", "five"});
  const std::vector<std::string> texts = {"One, two!", "", "five four three two one six", "three"};
  TemporaryFolder folder;
  ExampleFileInfo info;
  info.split = "train";
  info.vocabulary = tokenizer.vocabulary();
  info.classes = 2;
  ExampleFileWriter writer(folder.path("x.examples"), info);
  for (const std::string& text : texts) writer.add(1, tokenizer.encode(text), 1);
  writer.finish();
  const ExampleFile file(folder.path("x.examples"));
  for (const TextSide pad : {TextSide::kBack, TextSide::kFront}) {
    for (const TextSide cut : {TextSide::kBack, TextSide::kFront}) {
      BatchOptions options = options_for(1, 1, 5, 4);
      options.pad = pad;
      options.cut = cut;
      options.group_tokens = 4;
      LabelledEvaluationBatches batches(file, tokenizer.end_of_document(), options);
      TextBatch batch(tokenizer, options);
      const Rows expected = rows_of(batches.at(0, 0)), found = rows_of(batch.of(texts));
      EXPECT_EQ(found.tokens, expected.tokens);
      EXPECT_EQ(found.mask, expected.mask);
      EXPECT_EQ(found.targets, std::vector<int32_t>(5, -1));
      EXPECT_EQ(batch.counts().targets, 4);
      EXPECT_EQ(batch.counts().tokens, batches.counts(0).tokens);
      EXPECT_EQ(batch.counts().groups, batches.counts(0).groups);
      EXPECT_EQ(rows_of(batch.of({})).tokens, std::vector<int32_t>(20, 0)) << "what an earlier batch had is forgotten";
    }
  }
}

TEST(TextBatch, TakesATextOfOneMegabyteAndRefusesOneThatIsNotUtf8) {
  const WordsTokenizer tokenizer({"spam"});
  TextBatch batch(tokenizer, options_for(1, 1, 1, 6));
  std::vector<std::string> texts(1);
  while (texts[0].size() < (1u << 20)) texts[0] += "spam ";
  EXPECT_EQ(rows_of(batch.of(texts)).tokens, std::vector<int32_t>(6, 2));
  texts[0] = "sp\xFFm";
  expect_error(ExitCode::kData, "not UTF-8 at byte 2", [&] { batch.of(texts); });
  texts.resize(2);
  EXPECT_THROW(batch.of(texts), InternalError);
}

}  // namespace
}  // namespace switchyard
