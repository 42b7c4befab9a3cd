#!/usr/bin/env bash
# Installs, builds and runs the tests: all but those labelled slow. --slow runs those instead; --cuda-emulated runs those
# labelled cuda, in builds whose GPU is emulated: plain, with address and undefined-behaviour checks, with race detection
# (--cuda-emulated=plain, asan or tsan: one of them). Further arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."

presets=()
case ${1-} in
  --cuda-emulated) presets=(emulated emulated-asan emulated-tsan) ;;
  --cuda-emulated=plain) presets=(emulated) ;;
  --cuda-emulated=asan | --cuda-emulated=tsan) presets=("emulated-${1#*=}") ;;
  --cuda-emulated=*) echo "test: --cuda-emulated is plain, asan or tsan but not '${1#*=}'" >&2; exit 2 ;;
esac
if [ ${#presets[@]} -gt 0 ]; then
  shift
  launch/install.sh
  for preset in "${presets[@]}"; do
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
