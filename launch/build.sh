#!/usr/bin/env bash
# Builds build/switchyard. With --tests also the tests and benchmarks; with --preset NAME one of CMakePresets.json
# (release, debug, asan, tsan; cuda, which needs nvcc and also makes build/libswitchyard_cuda.so; emulated, emulated-asan,
# emulated-tsan, which build what is tested on an emulated GPU). All but release and cuda have a folder of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
tests=OFF
while [ $# -gt 0 ]; do
  case $1 in
    --tests) tests=ON ;;
    --preset) preset=${2:?build: --preset needs a name}; shift ;;
    *) echo "usage: launch/build.sh [--tests] [--preset release|debug|asan|tsan|cuda|emulated|emulated-asan|emulated-tsan]" >&2; exit 2 ;;
  esac
  shift
done

for tool in cmake ninja g++ mpicc protoc; do
  command -v "$tool" >/dev/null || { echo "build: $tool is not installed; run launch/install.sh" >&2; exit 1; }
done
cmake --preset "$preset" -DSWITCHYARD_TESTS="$tests" >/dev/null
cmake --build --preset "$preset"
