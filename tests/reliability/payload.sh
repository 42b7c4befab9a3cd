#!/usr/bin/env bash
# payload.sh PROGRAM: rows that travel compressed between real processes: fewer bytes, the same state on any number of ranks,
# and a fall-back that is told once and survives a resume.
source "$(dirname "$0")/lib.sh" "$1"
ways=()
for way in dispatch combine combine_backward dispatch_backward; do ways+=(--set "model.moe.payload.$way=INT8"); done

# exchanged ARGUMENTS...: bytes of dispatch and combine from rank 0 to rank 1 in a step.
exchanged() {
  launch 2 profile step "$config" --set threads=1 --steps 2 --json --trace "" "$@"
  [ "$code" = 0 ] || fail "profile step $* ended with exit code $code"
  tr -d ' \n' <"$work/out" | sed -n 's/.*"exchange":\[\[[0-9.]*,\([0-9]*\).*/\1/p'
}
plain=$(exchanged)
compressed=$(exchanged "${ways[@]}")
[ -n "$plain" ] && [ -n "$compressed" ] || fail "profile step told no bytes: '$plain' and '$compressed'"
[ $((2 * compressed)) -lt "$plain" ] || fail "compressed rows take $compressed bytes of a step, plain ones $plain"

must_train 0 plain --set train.steps=3
must_train 0 alone --set train.steps=3 --set log.every=1 "${ways[@]}"
alone=$(digest alone)
[ "$alone" != "$(digest plain)" ] || fail "compression changed nothing"
must_train 2 two --set train.steps=3 --set log.every=1 "${ways[@]}"
grep -q "payload error 0\.[0-9]* %" "$log" || fail "the step line does not tell what payloads lose"
expect_digest two "$alone" "compressed rows on 2 ranks"
[ "$(grep -c '"payload_error":{"dispatch":0\.0' "$work/two/metrics.jsonl")" = 3 ] || fail "metrics.jsonl does not tell what payloads lose in each step"

tight=("${ways[@]}" --set model.moe.payload.error_bound=0.000001 --set log.every=1)
must_train 0 whole --set train.steps=4 "${tight[@]}"
must_train 2 part --set train.steps=2 "${tight[@]}"
told=$(grep -c "dispatch of MoE layer 0 lost .*: these rows travel uncompressed from now on" "$log")
[ "$told" = 1 ] || fail "the fall-back of dispatch was told $told times"
must_train 1 part --resume --set train.steps=4 "${tight[@]}"
expect_digest part "$(digest whole)" "fallen back on 2 ranks, resumed on 1"
launch 2 train "$config" --run "$work/part" --resume --set train.steps=5 "${tight[@]/dispatch=INT8/dispatch=FP8}"
expect_refusal 2 "model.moe.payload.dispatch is FP8 but the run to be resumed has INT8" "resuming with another format"
expect_no_leftovers
echo "a step sends $compressed bytes instead of $plain; the same state on 1 and 2 ranks"
