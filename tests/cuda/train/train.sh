#!/usr/bin/env bash
# train.sh PROGRAM [STEPS]: training on GPUs, by the plug-in beside the program. The same state on 1, 2 and 4 ranks, whatever
# the order in which the devices work, with a GPU for each rank or one for all; the losses of the CPU; checkpoints that go to
# and fro; and one sentence where there is no GPU, or too few.
source "$(dirname "$0")/../../reliability/lib.sh" "$1"
steps=${2:-20}
gpu=(--set device=CUDA --set precision=F32 --set log.every=1)

# on ORDER DEVICES COMMAND...: with so many emulated devices, which do their work in this order.
on() {
  local order=$1 devices=$2
  shift 2
  local -x CUDA_EMULATION_DEVICES=$devices CUDA_EMULATION_ORDER='' CUDA_EMULATION_LATE='' CUDA_EMULATION_ISOLATED=''
  case $order in
    late) CUDA_EMULATION_LATE=1 CUDA_EMULATION_ISOLATED=1 ;;
    reverse) CUDA_EMULATION_ORDER=reverse CUDA_EMULATION_LATE=5 ;;
    random) CUDA_EMULATION_ORDER=random CUDA_EMULATION_LATE=9 ;;
  esac
  "$@"
}
# loss RUN STEP
loss() { sed -n "s/.*\"step\": *$2,.*\"loss\": *\([-+.0-9e]*\).*/\1/p" "$work/$1/metrics.jsonl" | head -n 1; }
# expect_near A B BOUND SENTENCE: relative.
expect_near() {
  awk -v a="$1" -v b="$2" -v bound="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= bound * (b < 0 ? -b : b)) }' ||
    fail "$4: $1 on the GPU and $2 on the CPU differ by more than $3"
}

on '' 0 train 0 none "${gpu[@]}"
expect_refusal 2 "device is CUDA, but" "device CUDA without a GPU"
on '' 0 must_train 0 fallen --set device=AUTO --set train.steps=1
grep -q "device AUTO: the CPU, as" "$log" || fail "device AUTO without a GPU: no sentence says that the CPU is taken"
on '' 1 train 2 crowded "${gpu[@]}"
expect_refusal 2 "2 ranks on a host with 1 GPU" "more ranks than GPUs"

must_train 2 cpu --set device=CPU --set precision=F32 --set log.every=1 --set train.steps=$steps
on '' 1 must_train 0 gpu1 "${gpu[@]}" --set train.steps=$steps
grep -q "device: .*device 0" "$log" || fail "the log does not name the device"
whole=$(digest gpu1)
[ -n "$whole" ] || fail "the run on one GPU has no checkpoint"
expect_near "$(loss gpu1 1)" "$(loss cpu 1)" 1e-5 "the loss of the first step"
expect_near "$(loss gpu1 $steps)" "$(loss cpu $steps)" 1e-3 "the loss of step $steps"

on late 2 must_train 2 gpu2 "${gpu[@]}" --set train.steps=$steps --check-collectives
expect_digest gpu2 "$whole" "2 ranks, work as late as can be"
on random 4 must_train 4 gpu4 "${gpu[@]}" --set train.steps=$steps
expect_digest gpu4 "$whole" "4 ranks, work in random order"
on reverse 1 must_train 2 shared "${gpu[@]}" --set train.steps=$steps --set parallel.device_share=true
expect_digest shared "$whole" "2 ranks that share a GPU"
on random 2 must_train 2 chunked "${gpu[@]}" --set train.steps=$steps --set parallel.overlap_chunks=2
expect_digest chunked "$whole" "rows in two chunks"
fixed=(--set parallel.fixed_blocks=true)
on '' 1 must_train 0 fixed "${gpu[@]}" "${fixed[@]}" --set train.steps=$steps
expect_near "$(loss fixed $steps)" "$(loss cpu $steps)" 1e-3 "blocks of fixed size"
on late 2 must_train 2 fixed2 "${gpu[@]}" "${fixed[@]}" --set train.steps=$steps
expect_digest fixed2 "$(digest fixed)" "blocks of fixed size on 2 ranks"

half=(--set device=CUDA --set precision=BF16 --set log.every=1 --set train.steps=6)
must_train 2 cpu_half --set device=CPU --set precision=BF16 --set log.every=1 --set train.steps=6
on '' 1 must_train 0 half "${half[@]}"
expect_near "$(loss half 6)" "$(loss cpu_half 6)" 1e-3 "six steps in BF16"
on random 2 must_train 2 half2 "${half[@]}"
expect_digest half2 "$(digest half)" "BF16 on 2 ranks"

on '' 2 must_train 2 first "${gpu[@]}" --set train.steps=$((steps / 2))
cp -r "$work/first" "$work/second"
on '' 1 must_train 0 first "${gpu[@]}" --set train.steps=$steps --resume
expect_digest first "$whole" "stopped on 2 GPUs, resumed on one"
must_train 2 second --set device=CPU --set precision=F32 --set log.every=1 --set train.steps=$steps --resume
expect_near "$(loss second $steps)" "$(loss cpu $steps)" 1e-3 "stopped on GPUs, resumed on the CPU"
on '' 2 must_train 2 cpu "${gpu[@]}" --set train.steps=$((steps + 2)) --resume
expect_no_leftovers
echo "1, 2 and 4 GPUs, two ranks on one, two chunks: the same state $whole"
