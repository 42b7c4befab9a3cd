#!/usr/bin/env bash
# switchyard and PyTorch in turns on the same machine, on the same tokens: pairs of timed blocks, their ratios.
#
#   tests/bench/against_pytorch.sh [small|medium] [f32|bf16] [1|2]      shape, precision, processes
#
# PYTHON   an interpreter with torch 2.13 and numpy (default: python3); README.md in peers/ says how to make one
# DATA     folder made by `switchyard tokenize` (default: data/gcide)
# PAIRS    (default 5)     SECONDS_EACH   of a timed block (default 20)
# 1 process: two threads each; 2 processes: expert parallelism, one thread each.
set -euo pipefail
cd "$(dirname "$0")/../.."
shape=${1:-small} precision=${2:-f32} processes=${3:-1}
python=${PYTHON:-python3} data=${DATA:-data/gcide} pairs=${PAIRS:-5} seconds=${SECONDS_EACH:-20}
config=configs/lm_$shape.textproto
threads=$((2 / processes))
[ -x build/bench/step ] || { echo "against_pytorch: build/bench/step is missing; run launch/build.sh --tests" >&2; exit 1; }
"$python" -c 'import torch, numpy' 2>/dev/null || { echo "against_pytorch: $python has no torch and numpy; see tests/bench/peers/README.md" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fields=(--set "data.corpus=$data" --set "precision=${precision^^}" --set "threads=$threads")
build/bench/step "$config" "${fields[@]}" --dump "$work/windows"
tcmalloc=$(ls /usr/lib/*/libtcmalloc_minimal.so.4 2>/dev/null | head -n 1 || true)
[ -n "$tcmalloc" ] || echo "against_pytorch: PyTorch runs without tcmalloc (libtcmalloc-minimal4), which flatters switchyard" >&2

ours() {
  local launcher=()
  [ "$processes" = 1 ] || launcher=(launch/local.sh "$processes")
  "${launcher[@]}" build/bench/step "$config" "${fields[@]}" --blocks 1 --seconds "$seconds" 2>/dev/null | tail -n 1
}
theirs() {
  local launcher=("$python")
  [ "$processes" = 1 ] || launcher=("$python" -m torch.distributed.run --standalone --nproc_per_node "$processes")
  OMP_NUM_THREADS=$threads LD_PRELOAD=$tcmalloc "${launcher[@]}" tests/bench/peers/torch_lm.py --shape "$shape" --dtype "$precision" --stream "$work/windows" \
    --seconds "$seconds" 2>/dev/null | tail -n 1
}

theirs >/dev/null # fills inductor's cache
for _ in $(seq "$pairs"); do
  ours | tee -a "$work/ours"
  theirs | tee -a "$work/theirs"
done
"$python" - "$work/ours" "$work/theirs" <<'SUMMARY'
import json, statistics, sys
ours, theirs = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
ratios = sorted(a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(ours, theirs))
median = lambda rows, key: statistics.median(row[key] for row in rows)
print(f"tokens/s: switchyard {median(ours, 'tokens_per_second'):.0f}, PyTorch {median(theirs, 'tokens_per_second'):.0f}; "
      f"ratio median {statistics.median(ratios):.3f}, range {ratios[0]:.3f} to {ratios[-1]:.3f} of {len(ratios)} pairs")
print(f"dropped: {median(ours, 'dropped'):.4f} against {median(theirs, 'dropped'):.4f}; loss after 50 steps: {median(ours, 'loss_after_50'):.4f} against {median(theirs, 'loss_after_50'):.4f}; "
      f"peak MiB: {median(ours, 'peak_mib'):.0f} against {median(theirs, 'peak_mib'):.0f} ({median(ours, 'peak_mib') / median(theirs, 'peak_mib'):.2f}); "
      f"start-up s: {median(ours, 'start_up_seconds'):.2f} against {median(theirs, 'start_up_seconds'):.2f}")
SUMMARY
