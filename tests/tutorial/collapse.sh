#!/usr/bin/env bash
# Collapse shown and cured: collapse.sh PROGRAM [FOLDER]
#
# Trains the same small model twice: without balance loss, where an alarm must fire and the report must show it, and with
# it, where none may. FOLDER keeps the runs and the page.
set -eu
program=$(realpath "${1:?expected the path of the program}")
here=$(realpath "$(dirname "$0")/../..")
work=${2:-}
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
failed=0
for run in without:0 with:0.01; do
  name=${run%:*}
  "$program" train "$here/configs/lm_tiny.textproto" --run "$work/$name" --set threads=2 --set train.steps=150 \
    --set model.moe.capacity_factor=1.25 --set log.alarm_unused_steps=50 --set "model.moe.balance_loss=${run#*:}" >"$work/$name.log" 2>&1 || { tail -n 3 "$work/$name.log" >&2; exit 1; }
  alarms=$(grep -c 'MoE layer' "$work/$name.log" || true)
  echo "$name balance loss: $alarms alarms"
  grep 'MoE layer' "$work/$name.log" | sed 's/^/  /' || true
  if [ "$name" = without ] && [ "$alarms" = 0 ]; then echo "FAILED: nothing warned of a router without balance loss" >&2; failed=1; fi
  if [ "$name" = with ] && [ "$alarms" != 0 ]; then echo "FAILED: a router with balance loss was warned of" >&2; failed=1; fi
done
"$program" report "$work/without" "$work/with" --output "$work/collapse.html"
sentence=$(grep -m 1 -o 'no token chose [^;]*\|the busiest expert [^;]*\|entropy [^;]*' "$work/without.log" | head -c 40 || true)
[ -z "$sentence" ] || grep -qF "$sentence" "$work/collapse.html" || { echo "FAILED: the report does not show \"$sentence\"" >&2; failed=1; }
exit $failed
