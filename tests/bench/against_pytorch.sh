#!/usr/bin/env bash
# switchyard and PyTorch in turns on the same machine, on the same tokens: pairs of timed blocks, their ratios.
#
#   tests/bench/against_pytorch.sh [small|medium] [f32|bf16] [1|2]      shape, precision, processes
#
# PYTHON   an interpreter with torch 2.13 and numpy (default: python3); README.md in peers/ says how to make one
# DATA     folder made by `switchyard tokenize` (default: data/gcide)
# STEP     the benchmark (default: build/bench/step)
# PAIRS    (default 5)     SECONDS_EACH   of a timed block (default 20)
# 1 process: two threads each; 2 processes: expert parallelism, one thread each.
set -euo pipefail
cd "$(dirname "$0")/../.."
shape=${1:-small} precision=${2:-f32} processes=${3:-1}
python=${PYTHON:-python3} data=${DATA:-data/gcide} step=${STEP:-build/bench/step} pairs=${PAIRS:-5} seconds=${SECONDS_EACH:-20}
config=configs/lm_$shape.textproto
threads=$((2 / processes))
[ -x "$step" ] || { echo "against_pytorch: $step is missing; run launch/build.sh --tests" >&2; exit 1; }
"$python" -c 'import torch, numpy' 2>/dev/null || { echo "against_pytorch: $python has no torch and numpy; see tests/bench/peers/README.md" >&2; exit 1; }

. tests/bench/turns.sh
fields=(--set "data.corpus=$data" --set "precision=${precision^^}" --set "threads=$threads")
"$step" "$config" "${fields[@]}" --dump "$work/windows"

ours() {
  local launcher=()
  [ "$processes" = 1 ] || launcher=(launch/local.sh "$processes")
  "${launcher[@]}" "$step" "$config" "${fields[@]}" --seconds "$seconds" "$@"
}
theirs() {
  local launcher=("$python")
  [ "$processes" = 1 ] || launcher=("$python" -m torch.distributed.run --standalone --nproc_per_node "$processes")
  OMP_NUM_THREADS=$threads LD_PRELOAD=$tcmalloc "${launcher[@]}" tests/bench/peers/torch_lm.py --shape "$shape" --dtype "$precision" --stream "$work/windows" \
    --seconds "$seconds" "$@"
}
[ "$precision" = f32 ] || theirs --blocks 1 --seconds 1 >/dev/null 2>&1 # fills inductor's cache
race
"$python" - "$work/ours.log" "$work/theirs.log" <<'SUMMARY'
import json, statistics, sys
ours, theirs = (json.loads([line for line in open(path) if line.startswith("{")][-1]) for path in sys.argv[1:])
print(json.dumps(ours))
print(json.dumps(theirs))
ratios = sorted(a / b for a, b in zip(ours["blocks"], theirs["blocks"]))
print(f"tokens/s: switchyard {statistics.median(ours['blocks']):.0f}, PyTorch {statistics.median(theirs['blocks']):.0f}; "
      f"ratio median {statistics.median(ratios):.3f}, range {ratios[0]:.3f} to {ratios[-1]:.3f} of {len(ratios)} pairs")
print(f"dropped: {ours['dropped']:.4f} against {theirs['dropped']:.4f}; loss after 50 steps: {ours['loss_after_50']:.4f} against {theirs['loss_after_50']:.4f}; "
      f"peak MiB: {ours['peak_mib']} against {theirs['peak_mib']} ({ours['peak_mib'] / theirs['peak_mib']:.2f}); "
      f"start-up s: {ours['start_up_seconds']:.2f} against {theirs['start_up_seconds']:.2f}")
SUMMARY
