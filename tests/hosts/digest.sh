#!/usr/bin/env bash
# digest.sh PROGRAM: training across two hosts (launch/hosts.sh) ends in the state of one, on one rank a host and on two; what
# tc counts on the links is what the ranks exchange, and a link keeps to its rate. Nothing is left behind, however it ends.
source "$(dirname "$0")/lib.sh" "$1"
namespaces() { lsns -n -o NS -t net 2>/dev/null | wc -l; }
namespaces_before=$(namespaces)

# hosts N SLOTS RUN ARGUMENTS...: trains on N hosts; what their links carried is in $work/RUN.traffic.
hosts() {
  local n=$1 slots=$2 run=$3
  shift 3
  code=0
  "$hosts_sh" "$n" --slots "$slots" --rate 1gbit --traffic "$work/$run.traffic" -- \
    "$program" train "$config" --run "$work/$run" --set threads=1 --set eval.every=0 "$@" >"$work/out" 2>"$log" </dev/null || code=$?
}
expect_nothing_left() {
  wait_until "every process of the hosts to end; left: $(processes | tr '\n' ' ')" no_process
  wait_until "the hosts' namespaces to go" no_new_namespace
  local left=("$TMPDIR"/switchyard-hosts.*)
  [ ${#left[@]} = 0 ] || fail "the hosts left ${left[*]} behind"
}
no_new_namespace() { [ "$(namespaces)" -le "$namespaces_before" ]; }
# bytes RUN: what all hosts sent.
bytes() { awk '{ sum += $2 } END { print sum }' "$work/$1.traffic"; }

must_train 0 whole --set train.steps=6
whole=$(digest whole)
for slots in 1 2; do
  hosts 2 $slots run$slots --set train.steps=6
  expect_code 0 "training on 2 hosts of $slots ranks"
  grep -q "$((2 * slots)) ranks" "$log" || fail "2 hosts of $slots ranks: the log does not tell of $((2 * slots)) ranks"
  expect_digest run$slots "$whole" "2 hosts of $slots ranks"
  expect_nothing_left
done

# Twice the steps carry twice the bytes, less what starting and saving take: so tc counts the exchange, not something else.
hosts 2 1 run3 --set train.steps=12
expect_code 0 "training on 2 hosts for twice the steps"
hosts 2 1 run4 --set train.steps=18
expect_code 0 "training on 2 hosts for three times the steps"
awk -v a="$(bytes run1)" -v b="$(bytes run3)" -v c="$(bytes run4)" 'BEGIN { exit !(a > 0 && (c - b) > 0.9 * (b - a) && (c - b) < 1.1 * (b - a)) }' ||
  fail "6, 12 and 18 steps sent $(bytes run1), $(bytes run3) and $(bytes run4) bytes: six more should cost the same each time"
# What one host sends the other receives.
awk 'NR == 1 { sent = $2; got = $4 } NR == 2 { exit !($4 > 0.95 * sent && $4 < 1.05 * sent && got > 0.95 * $2 && got < 1.05 * $2) }' "$work/run4.traffic" ||
  fail "what one host sent is not what the other received: $(tr '\n' ' ' <"$work/run4.traffic")"

# Asked to stop: a checkpoint, and 75.
"$hosts_sh" 2 -- "$program" train "$config" --run "$work/stopped" --set threads=1 --set eval.every=0 --set train.steps=100000 --set log.every=1 \
  >"$work/out" 2>"$log" </dev/null &
started=$!
has_stepped() { [ "$(cat "$work/stopped/metrics.jsonl" 2>/dev/null | wc -l)" -ge 2 ]; }
wait_until "the first two steps" has_stepped
kill -TERM "$started"
code=0
wait "$started" || code=$?
expect_code 75 "TERM to launch/hosts.sh"
grep -q "stopped as asked at step" "$log" || fail "TERM to launch/hosts.sh: the run did not stop as asked"
expect_nothing_left

# The watchdogs of different hosts hear one another.
"$hosts_sh" 2 --slots 2 -- "$program" train "$config" --run "$work/hung" --set threads=1 --set eval.every=0 --set train.steps=100000 --set log.every=1 \
  --set parallel.hang_deadline=3 >"$work/out" 2>"$log" </dev/null &
started=$!
has_begun() { [ -s "$work/hung/metrics.jsonl" ]; }
wait_until "the first step" has_begun
for pid in $(processes); do
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx OMPI_COMM_WORLD_RANK=3 && kill -STOP "$pid"
done
code=0
wait "$started" || code=$?
expect_refusal 86 "the ranks hang: rank 3 does not answer" "a stopped rank of the second host"  # and no other
expect_nothing_left

# Killed: the hosts end with it. Its folder stays, as nobody is there to remove it.
"$hosts_sh" 2 -- "$program" train "$config" --run "$work/killed" --set threads=1 --set eval.every=0 --set train.steps=100000 --set log.every=1 \
  >"$work/out" 2>"$log" </dev/null &
started=$!
has_begun() { [ -s "$work/killed/metrics.jsonl" ]; }
wait_until "the first step" has_begun
kill -KILL "$started"
wait "$started" 2>/dev/null
rm -rf "$TMPDIR"/switchyard-hosts.*
expect_nothing_left

for wrong in "0 -- true" "2 --rate fast -- true" "2 --slots -- true" "2 true" "2 --"; do
  code=0
  "$hosts_sh" $wrong >"$work/out" 2>"$log" || code=$?
  expect_code 2 "launch/hosts.sh $wrong"
  [ "$(grep -c '^hosts: ' "$log")" = 1 ] || fail "launch/hosts.sh $wrong: no sentence"
done
echo "two hosts of one and two ranks: the same state $whole; $(bytes run1) bytes for 6 steps"
