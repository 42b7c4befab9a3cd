#!/usr/bin/env bash
# A training step on 2 ranks with 1, 2 and 4 chunks on an emulated link, against the formula of src/moe/README.md.
#
#   tests/bench/overlap.sh [CONFIG [--set FIELD=VALUE]...]     default: configs/lm_small.textproto
#
# BUILD (default build)   SECONDS_EACH of timed steps (default 20)   ALPHA of a message in seconds (default 0.0001)
# RATIO (default 1): what both ways of a layer's rows take, as a multiple of its experts' forward.
# A run without a link says how long the experts take and how many bytes travel, from which the link is made. The formula
# takes everything else of a step, and the experts' seconds, from the run with one chunk. Nothing else may run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build} seconds=${SECONDS_EACH:-20} alpha=${ALPHA:-0.0001} ratio=${RATIO:-1}
config=${1:-configs/lm_small.textproto}
shift || true
[ -x "$build/bench/step" ] || { echo "overlap: $build/bench/step is missing; build with -DSWITCHYARD_TESTS=ON" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { # ARGUMENTS...: the line of JSON
  launch/local.sh 2 "$build/bench/step" "$config" --set threads=1 --overlap --blocks 1 --seconds "$seconds" "$@" 2>"$work/log" | tail -n 1 ||
    { cat "$work/log" >&2; exit 1; }
}

free=$(step "$@")
awk -v alpha="$alpha" -v ratio="$ratio" '
  function number(key) { return match($0, "\"" key "\":[-+.0-9eE]+") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 : 0 }
  {
    rate = number("way_bytes") / (ratio * number("experts_seconds") / 2)
    link = sprintf("{\"alpha_seconds\": %g, \"bytes_per_second\": %.0f}", alpha, rate)
    printf "{\"format\": \"switchyard link 1\", \"within_host\": %s, \"between_hosts\": %s}\n", link, link
  }' <<<"$free" >"$work/link.json"
cat "$work/link.json"
for chunks in 1 2 4; do
  step "$@" --set "parallel.emulated_link=$work/link.json" --set "parallel.overlap_chunks=$chunks" | sed "s/^/$chunks /"
done >"$work/lines"

awk -v alpha="$alpha" -v rate="$(sed 's/.*"bytes_per_second": \([0-9]*\).*/\1/' "$work/link.json")" '
  function number(key) { return match($0, "\"" key "\":[-+.0-9eE]+") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 : 0 }
  function max(a, b) { return a > b ? a : b }
  # Of n chunks with `work` seconds of products, and `after` seconds of others behind the last.
  function trip(n, work, after,    way, part, all, left) {
    way = bytes / n / rate + alpha
    part = work / n
    all = n == 1 ? 2 * way + work : max(2 * way + work, 2 * n * way + 2 * max(0, part - way))
    left = way + (n == 1 ? 0 : max(0, way - part))  # of the link, when the last product is done
    return all - left + max(left, after)
  }
  function trips(n) { return count * (trip(n, forward, 0) + trip(n, backward, weights)) }
  BEGIN { print "| chunks | step, ms | formula, ms | measured / formula |\n| --- | --- | --- | --- |" }
  {
    if (NR == 1) {
      bytes = number("way_bytes"); count = number("trips_of_a_step")
      forward = number("experts_seconds"); backward = number("experts_backward_seconds"); weights = number("weights_seconds")
      rest = number("step_seconds") - trips(1)
    }
    expected = rest + trips($1)
    printf "| %d | %.1f | %.1f | %.3f |\n", $1, 1000 * number("step_seconds"), 1000 * expected, number("step_seconds") / expected
  }' "$work/lines"
