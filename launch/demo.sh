#!/usr/bin/env bash
# From a clean machine to a trained model: installs, builds, tokenizes Debian's GCIDE dictionary (40 MB of English prose),
# trains configs/lm_small.textproto on 2 ranks, evaluates it on held-out entries, and lets it write. Starting it again
# continues where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

run=runs/lm_small
data=data/gcide
begin=$(date +%s)
stage() { printf '\n== %s (%d s since the start)\n' "$1" "$(($(date +%s) - begin))"; }

stage "install"
launch/install.sh
stage "build"
launch/build.sh
stage "tokenize"
if [ -d "$data" ]; then
  echo "$data is here already"
else
  build/switchyard tokenize
fi
stage "train"
train_begin=$(date +%s)
launch/local.sh 2 build/switchyard train configs/lm_small.textproto --run "$run" --resume
train_seconds=$(($(date +%s) - train_begin))

stage "evaluate"
bits() { # compressed bits per byte of the held-out text
  awk -v compressed="$("$@" <"$data/heldout.txt" | wc -c)" -v text="$(wc -c <"$data/heldout.txt")" 'BEGIN { printf "%.4f", 8 * compressed / text }'
}
build/switchyard eval "$run"
echo "bzip2 -9 of the same text: $(bits bzip2 -9c)"
echo "xz -9e of the same text:   $(bits xz -9ec)"

stage "generate"
build/switchyard generate "$run" --prompt 'Light \Light\, n. [' --tokens 120 --temperature 0.8 --top-k 40 --seed 1

stage "done"
cat <<DONE
training took $train_seconds s
tokens and tokenizer   $data
the run                $run   (metrics.jsonl, events/ for TensorBoard, checkpoints)
the program            build/switchyard --help
DONE
