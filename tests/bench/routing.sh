#!/usr/bin/env bash
# What each way of routing costs and brings: configs/lm_small.textproto for STEPS steps of the same text and the same seed.
#
#   tests/bench/routing.sh [NAME...]      all of tests/moe/ways.sh, or those that are named
#
# SWITCHYARD (default: build/switchyard)   DATA (default: data/gcide)   STEPS (default 100)   SEQUENCES of a micro-batch (default 4)
# A row: training loss (cross-entropy in nats) of the last step, tokens/s over the second half of the steps, and the part of
# the choices that found no slot, over the same steps.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/moe/ways.sh
program=${SWITCHYARD:-build/switchyard} data=${DATA:-data/gcide} steps=${STEPS:-100} sequences=${SEQUENCES:-4}
[ -x "$program" ] || { echo "routing: $program is missing; run launch/build.sh" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '| %-18s | %6s | %8s | %7s |\n| --- | --- | --- | --- |\n' way loss tokens/s dropped
while read -r name settings; do
  [ -n "$name" ] || continue
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  sets=()
  for setting in $settings; do sets+=(--set "$setting"); done
  "$program" train configs/lm_small.textproto --run "$work/$name" --set "data.corpus=$data" --set "train.steps=$steps" --set "train.sequences=$sequences" \
    --set optimizer.warmup_steps=20 --set "optimizer.schedule_steps=$steps" --set log.every=1 --set eval.every=0 --set checkpoint.every=0 \
    "${sets[@]}" >"$work/log" 2>&1 </dev/null || { tail -n 1 "$work/log" >&2; continue; }
  awk -v name="$name" -v steps="$steps" '
    function number(key) { return match($0, "\"" key "\":[-+.0-9eE]+") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) : 0 }
    /"loss"/ && /"gradient_norm"/ {
      loss = number("loss")
      if (number("step") > steps / 2) { n++; seconds += number("step_seconds"); dropped += number("dropped_fraction") }
      if (number("step") == 1) tokens = number("tokens")
    }
    END { printf "| %-18s | %6.3f | %8.0f | %5.1f %% |\n", name, loss, tokens * n / seconds, 100 * dropped / n }' "$work/$name/metrics.jsonl"
  rm -rf "${work:?}/$name"
done <<<"top_1
$ways"
