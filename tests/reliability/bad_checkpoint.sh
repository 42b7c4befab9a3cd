#!/usr/bin/env bash
# bad_checkpoint.sh PROGRAM RANKS: a damaged checkpoint is passed over loudly for an older one; where all are damaged the
# run ends with 65 and leaves them as they are. RANKS is 0 (without mpirun) or more.
source "$(dirname "$0")/lib.sh" "$1"
ranks=${2:?expected a number of ranks}

must_train 2 run --set train.steps=4 --set checkpoint.every=2
must_train 0 whole --set train.steps=5
whole=$(digest whole)

# harmed WHAT COMMAND...: the command spoils a checkpoint, in whose directory it runs.
harmed() {
  local what=$1 old=step-000000002 new=step-000000004
  shift
  rm -rf "$work/copy"
  cp -r "$work/run" "$work/copy"
  (cd "$work/copy/$new" && "$@") || fail "cannot make $what"
  cp -r "$work/copy" "$work/both"
  train "$ranks" copy --resume --set train.steps=5
  expect_code 0 "$what in the newest checkpoint"
  grep -q "$new is damaged and was passed over" "$log" || fail "$what in the newest checkpoint: the log does not say that it was passed over"
  grep -q "resumed from .*$old at step 2" "$log" || fail "$what in the newest checkpoint: the log does not say that the older one was taken"
  expect_digest copy "$whole" "$what in the newest checkpoint"

  (cd "$work/both/$old" && "$@") || fail "cannot make $what"
  (cd "$work/both" && find . -type f ! -name run.lock -exec sha256sum {} + | sort) >"$work/before"
  train "$ranks" both --resume --set train.steps=5
  expect_refusal 65 "none of the 2 checkpoints" "$what in every checkpoint"
  (cd "$work/both" && find . -type f ! -name run.lock -exec sha256sum {} + | sort) >"$work/after"
  cmp -s "$work/before" "$work/after" || fail "$what in every checkpoint: the run directory was changed: $(diff "$work/before" "$work/after" | tr '\n' ' ')"
  rm -r "$work/copy" "$work/both"
}

shard=shard-00001-of-00002.safetensors
harmed "a file without its last byte" truncate -s -1 $shard
harmed "a bit flipped in the weights" flip $shard -1000
harmed "a bit flipped in a file's header" flip $shard 100
harmed "a missing file" rm $shard
harmed "a missing manifest" rm MANIFEST.json
harmed "half a manifest" truncate -s 8000 MANIFEST.json
harmed "a bit flipped in the manifest" flip MANIFEST.json 5000

# What belongs to another model is named by its first field that differs.
train "$ranks" run --resume --set model.feed_forward=32
expect_refusal 2 "model.feed_forward is 32 but the run to be resumed has 64" "a checkpoint of another model"
train "$ranks" run --resume --set model.moe.experts=5
expect_refusal 2 "model.moe.experts" "a checkpoint with other experts"

# A directory that holds a run is not begun again.
train "$ranks" run --set train.steps=5
expect_refusal 2 "--resume" "training into a directory that holds a run"
[ "$(step run)" = 4 ] || fail "training into a directory that holds a run changed its newest checkpoint"

launch "$ranks" eval "$work/run"
[ "$code" = 0 ] || fail "the run that was tried in vain cannot be evaluated any more"
expect_no_leftovers
echo "every damaged checkpoint was seen"
