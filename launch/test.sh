#!/usr/bin/env bash
# Installs, builds and runs the tests: all but those labelled slow. --slow runs those instead; further arguments go to
# ctest.
set -euo pipefail
cd "$(dirname "$0")/.."

select=(-LE slow)
if [ "${1-}" = --slow ]; then
  select=(-L slow)
  shift
fi
launch/install.sh
launch/build.sh --tests
cd build
ctest --output-on-failure --no-tests=error -j "$(nproc)" "${select[@]}" "$@"
