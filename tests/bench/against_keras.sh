#!/usr/bin/env bash
# Training the Keras tutorial's classifier (configs/classify_keras_io.textproto): switchyard and a peer in turns.
#
#   tests/bench/against_keras.sh [torch|keras] [1|2]      the peer, switchyard's processes
#
# torch  the same model in plain PyTorch, the fastest form that was tried (peers/torch_classifier.py)
# keras  the example's own model in Keras (peers/keras_classifier.py)
#
# PYTHON, STEP, PAIRS, SECONDS_EACH as in against_pytorch.sh. Both read random texts of 200 words from 20,000, so nothing is
# padding; every token goes to expert t modulo E in switchyard and in PyTorch. The peer has one process with two threads.
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=${1:-torch} processes=${2:-2}
python=${PYTHON:-python3} step=${STEP:-build/bench/step} program=${SWITCHYARD:-build/switchyard} pairs=${PAIRS:-5} seconds=${SECONDS_EACH:-20}
[ -f "tests/bench/peers/${peer}_classifier.py" ] || { echo "against_keras: expected the peer torch or keras, found $peer" >&2; exit 2; }
[ -x "$step" ] || { echo "against_keras: $step is missing; run launch/build.sh --tests" >&2; exit 1; }
"$python" -c "import $peer, numpy" 2>/dev/null || { echo "against_keras: $python has no $peer and numpy; see tests/bench/peers/README.md" >&2; exit 1; }

. tests/bench/turns.sh
awk 'BEGIN {
  srand(1)
  for (i = 0; i < 4000; ++i) {
    line = i % 2 == 0 ? "even\t" : "odd\t"
    for (j = 0; j < 200; ++j) line = line "w" int(rand() * 19998) " "
    print line
  }
}' >"$work/random.tsv"
"$program" tokenize --labelled "$work/random.tsv" --tokenizer words --vocabulary 20000 --output "$work/data" >/dev/null 2>&1

ours() {
  local launcher=()
  [ "$processes" = 1 ] || launcher=(launch/local.sh "$processes")
  "${launcher[@]}" "$step" configs/classify_keras_io.textproto --set "data.corpus=$work/data" --set precision=F32 --set "threads=$((2 / processes))" \
    --set model.classifier.dropout=0 --seconds "$seconds" "$@"
}
theirs() { OMP_NUM_THREADS=2 LD_PRELOAD=$tcmalloc "$python" "tests/bench/peers/${peer}_classifier.py" --seconds "$seconds" "$@"; }
race
"$python" - "$work/ours.log" "$work/theirs.log" <<'SUMMARY'
import json, statistics, sys
ours, theirs = (json.loads([line for line in open(path) if line.startswith("{")][-1]) for path in sys.argv[1:])
print(json.dumps(ours))
print(json.dumps(theirs))
samples = [rate / 200 for rate in ours["blocks"]]
ratios = sorted(a / b for a, b in zip(samples, theirs["blocks"]))
print(f"samples/s: switchyard {statistics.median(samples):.0f}, peer {statistics.median(theirs['blocks']):.0f}; "
      f"ratio median {statistics.median(ratios):.3f}, range {ratios[0]:.3f} to {ratios[-1]:.3f} of {len(ratios)} pairs")
SUMMARY
