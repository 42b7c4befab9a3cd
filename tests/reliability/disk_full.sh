#!/usr/bin/env bash
# disk_full.sh PROGRAM RANKS: a save for which there is no room ends the run with 74, leaves nothing half-made, and the
# older checkpoint goes on to the same state once there is room. RANKS is 0 (without mpirun) or more.
#
# "No room" is a small disk in a private mount namespace, and, without mpirun, which needs large files itself, a limit on
# the size of files. Where namespaces are forbidden only the limit is tried.
if [ -z "${SWITCHYARD_OWN_MOUNTS-}" ]; then
  export SWITCHYARD_OWN_MOUNTS=yes
  unshare -m true 2>/dev/null && exec unshare -m "$0" "$@"
  unshare -r -m true 2>/dev/null && exec unshare -r -m "$0" "$@"
  SWITCHYARD_OWN_MOUNTS=no
fi
source "$(dirname "$0")/lib.sh" "$1"
ranks=${2:?expected a number of ranks}
every=(--set train.steps=7 --set checkpoint.every=2)

must_train 0 whole --set train.steps=7
whole=$(digest whole)
size=$(du -sk "$work/whole/step-000000007" | cut -f 1)  # of a checkpoint, KiB

# expect_no_room RUN STEP WHAT: the last launch could not save, and the checkpoint of STEP is still the newest.
expect_no_room() {
  expect_refusal 74 "was not saved" "$3"
  expect_tidy "$1"
  [ "$(step "$1")" = "$2" ] || fail "$3: the newest checkpoint is of step $(step "$1") where $2 was expected"
}

must_train "$ranks" run --set train.steps=2
ulimit -S -f $((size / 4))
train 0 run --resume "${every[@]}"
ulimit -S -f unlimited
expect_no_room run 2 "a limit on the size of files"
must_train "$ranks" run --resume "${every[@]}"
expect_digest run "$whole" "resumed without the limit"

if [ "$SWITCHYARD_OWN_MOUNTS" = yes ]; then
  mkdir "$work/disk"
  mount -t tmpfs -o size=$((size * 20))k none "$work/disk" || fail "cannot mount a small disk"
  trap 'umount "$work/disk"; cleanup' EXIT
  head -c $((size * 35 / 2))k /dev/zero >"$work/disk/filler"
  train "$ranks" disk/run "${every[@]}"
  expect_no_room disk/run 4 "a disk with room for two checkpoints"
  train "$ranks" disk/run --resume "${every[@]}"
  expect_no_room disk/run 4 "a disk that is still full"
  rm "$work/disk/filler"
  must_train "$ranks" disk/run --resume "${every[@]}"
  expect_digest disk/run "$whole" "resumed with more room"

  rm -r "$work/disk/run"
  head -c $((size * 30))k /dev/zero >"$work/disk/filler" 2>/dev/null
  train "$ranks" disk/run
  expect_refusal 74 "No space left on device" "a disk without room for anything"
  expect_tidy disk/run
  expect_nothing_at "$work/disk/run/config.textproto" "a disk without room for anything"
fi
expect_no_leftovers
[ "$SWITCHYARD_OWN_MOUNTS" = yes ] || echo "mount namespaces are forbidden here: only a limit on the size of files was tried"
echo "without room: refused, and the older checkpoint went on to the same state"
