// Stacks, and the order of turns between a fiber and who resumes it.
#include "tests/cuda_emulation/fiber.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace switchyard::emulation {
namespace {

// What the fibers of a test share; a Body is given nothing.
struct Stage {
  std::string trace;
  std::vector<std::unique_ptr<Fiber>> fibers;
  size_t running = 0;
  double sum = 0;
};

Stage& stage() {
  static Stage the_stage;
  return the_stage;
}

void resume(size_t fiber) {
  stage().running = fiber;
  stage().fibers[fiber]->resume();
}

void pause() { stage().fibers[stage().running]->suspend(false); }

class FiberTest : public testing::Test {
 protected:
  FiberTest() { stage() = Stage(); }
  ~FiberTest() override { stage() = Stage(); }

  void make(size_t count, Fiber::Body body) {
    for (size_t i = 0; i < count; ++i) {
      stage().fibers.push_back(std::make_unique<Fiber>());
      stage().fibers.back()->start(body);
    }
  }
};

void three_turns() {
  const size_t own = stage().running;
  for (int turn = 0; turn < 3; ++turn) {
    stage().trace += std::to_string(own) + "ab"[turn % 2];
    if (turn < 2) pause();
  }
}

TEST_F(FiberTest, TakeTurnsAsTheyAreResumed) {
  make(2, &three_turns);
  for (const size_t fiber : {0u, 1u, 1u, 0u, 0u, 1u}) resume(fiber);
  EXPECT_EQ(stage().trace, "0a1a1b0b0a1a");
}

TEST_F(FiberTest, StartAgainFromTheFirstLine) {
  make(1, &three_turns);
  resume(0);
  resume(0);
  stage().fibers[0]->start(&three_turns);
  resume(0);
  EXPECT_EQ(stage().trace, "0a0b0a");
}

// Recursion deep enough to need the stack, with a pause at the bottom.
double descend(int depth, double value) {
  volatile double local = value;
  if (depth == 0) {
    pause();
    return local;
  }
  return descend(depth - 1, value + 1) + local;
}

void deep() { stage().sum += descend(200, static_cast<double>(stage().running)); }

TEST_F(FiberTest, KeepTheirStacksApart) {
  constexpr size_t kFibers = 300;
  make(kFibers, &deep);
  for (size_t i = 0; i < kFibers; ++i) resume(i);
  for (size_t i = kFibers; i-- > 0;) resume(i);
  double expected = 0;
  for (size_t i = 0; i < kFibers; ++i) expected += 201.0 * static_cast<double>(i) + 200 * 201 / 2;
  EXPECT_EQ(stage().sum, expected);
}

void with_doubles() {
  double a = 1.5, b = 2.5, c = 3.5;
  for (int i = 0; i < 4; ++i) {
    a = std::sqrt(a + b);
    pause();
    b = std::sqrt(b + c);
    c += a * b;
  }
  stage().sum += c;
}

TEST_F(FiberTest, KeepWhatRegistersHeld) {
  make(1, &with_doubles);
  for (int turn = 0; turn < 5; ++turn) resume(0);
  const double alone = stage().sum;
  stage() = Stage();
  make(7, &with_doubles);
  for (int turn = 0; turn < 5; ++turn) {
    for (size_t i = 0; i < 7; ++i) resume(i);
  }
  double expected = 0;
  for (int i = 0; i < 7; ++i) expected += alone;
  EXPECT_EQ(stage().sum, expected);
}

}  // namespace
}  // namespace switchyard::emulation
