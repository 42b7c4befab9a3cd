#!/usr/bin/env bash
# The certificate for every way of routing: verify.sh PROGRAM [STEPS [NAME]]
#
# Trains configs/lm_tiny.textproto (as a decoder with all that could depend on ranks) for a few steps on 1, 2, 3 and 4 ranks
# with each setting below, and compares every tensor of every step, bit by bit.
set -eu
program=$(realpath "${1:?expected the path of the program}")
steps=${2:-3}
only=${3:-}
config=$(realpath "$(dirname "$0")/../../configs/lm_tiny.textproto")
. "$(dirname "$0")/ways.sh"

failed=
while read -r name settings; do
  [ -n "$name" ] || continue
  [ -z "$only" ] || [ "$name" = "$only" ] || continue
  sets=()
  for setting in $settings; do sets+=(--set "$setting"); done
  if output=$("$program" verify "$config" --ranks 1,2,3,4 --threads 1 --steps "$steps" "${sets[@]}" 2>&1 </dev/null); then
    printf '%-20s identical\n' "$name"
  else
    printf '%-20s FAILED\n%s\n' "$name" "$output"
    failed="$failed $name"
  fi
done <<<"$ways
fixed_blocks        parallel.fixed_blocks=true"
[ -z "$failed" ] || { echo "FAILED:$failed" >&2; exit 1; }
