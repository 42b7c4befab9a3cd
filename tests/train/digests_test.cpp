// Digest files: where two runs part, by name.
#include "src/train/digests.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

class DigestFiles : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    const std::string path = folder_.path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  TemporaryFolder folder_;
};

constexpr const char* kRun =
    "0 gradient.a F32 2 11\n0 gradient.b F32 2 12\n0 loss 0x1p+0 norm 0x1p+1 tokens 8\n0 a F32 2 13\n0 b F32 2 14\n0 optimizer.m.a F32 2 15\n"
    "1 gradient.a F32 2 21\n1 gradient.b F32 2 22\n1 loss 0x1p-1 norm 0x1p+1 tokens 16\n1 a F32 2 23\n1 b F32 2 24\n1 optimizer.m.a F32 2 25\n";

std::string with(std::string text, const std::string& from, const std::string& to) { return text.replace(text.find(from), from.size(), to); }

TEST_F(DigestFiles, OfTheSameRunAreIdentical) { EXPECT_FALSE(compare_digests(file("a", kRun), file("b", kRun)).has_value()); }

TEST_F(DigestFiles, PartAtTheFirstTensorThatDiffersAndCountTheOthersOfItsStep) {
  const std::string other = with(with(with(kRun, "gradient.b F32 2 12", "gradient.b F32 2 99"), "b F32 2 14", "b F32 2 98"), "a F32 2 23", "a F32 2 97");
  const auto difference = compare_digests(file("a", kRun), file("b", other));
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->step, 0);
  EXPECT_EQ(difference->tensor, "gradient.b");
  EXPECT_EQ(difference->tensors, 2) << "those of later steps do not count";
  EXPECT_EQ(difference->sentence(), "step 0 differs; first tensor: gradient.b, and 1 more");
}

TEST_F(DigestFiles, WhoseScalarsDifferFirstNameTheTensorOfALaterStep) {
  const std::string other = with(with(kRun, "norm 0x1p+1 tokens 8", "norm 0x1.8p+1 tokens 8"), "1 b F32 2 24", "1 b F32 2 96");
  const auto difference = compare_digests(file("a", kRun), file("b", other));
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->step, 0);
  EXPECT_NE(difference->scalars.find("0x1.8p+1"), std::string::npos) << difference->scalars;
  EXPECT_EQ(difference->tensor, "b");
  EXPECT_EQ(difference->tensor_step, 1);
}

TEST_F(DigestFiles, OfOtherLengthsOrOtherRunsAreRefused) {
  const std::string whole = file("a", kRun), shorter = file("b", std::string(kRun).substr(0, std::string(kRun).find("1 gradient.a")));
  EXPECT_THROW(compare_digests(whole, shorter), Error);
  EXPECT_THROW(compare_digests(whole, file("c", with(kRun, "gradient.a", "gradient.z"))), Error);
  EXPECT_THROW(compare_digests(whole, file("d", "hello\n")), Error);
  EXPECT_THROW(compare_digests(whole, file("e", "")), Error);
  EXPECT_THROW(compare_digests(whole, folder_.path() + "/missing"), Error);
}

TEST_F(DigestFiles, SummariesDependOnTheirOwnKindOfLineOnly) {
  const DigestSummary one = summarize_digests(file("a", kRun)), other = summarize_digests(file("b", with(kRun, "gradient.b F32 2 12", "gradient.b F32 2 99")));
  EXPECT_NE(one.gradients, other.gradients);
  EXPECT_EQ(one.weights, other.weights);
  EXPECT_EQ(one.optimizer, other.optimizer);
  EXPECT_EQ(one.loss, other.loss);
  EXPECT_EQ(one.steps, 1);
}

}  // namespace
}  // namespace switchyard
