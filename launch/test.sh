#!/usr/bin/env bash
# Installs, builds and runs the tests: all but those labelled slow. --slow runs those instead; --cuda-emulated runs those
# labelled cuda, in builds whose GPU is emulated: plain, with address and undefined-behaviour checks, with race detection.
# Further arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1-}" = --cuda-emulated ]; then
  shift
  launch/install.sh
  for preset in emulated emulated-asan emulated-tsan; do
    launch/build.sh --tests --preset "$preset"
    ctest --test-dir "build-$preset" --output-on-failure --no-tests=error -j "$(nproc)" -L cuda "$@"
  done
  exit 0
fi
select=(-LE slow)
if [ "${1-}" = --slow ]; then
  select=(-L slow)
  shift
fi
launch/install.sh
launch/build.sh --tests
cd build
ctest --output-on-failure --no-tests=error -j "$(nproc)" "${select[@]}" "$@"
