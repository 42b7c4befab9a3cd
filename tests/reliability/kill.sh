#!/usr/bin/env bash
# kill.sh PROGRAM KILLS [SEED]: kill -9 of mpirun or of a rank, KILLS times, every second one inside saving; each time
# --resume goes on, and every run that ends has the state of the undisturbed one.
#
# A kill counts as inside saving only if it left a half-made checkpoint behind.
source "$(dirname "$0")/lib.sh" "$1"
kills=${2:?expected a number of kills}
seed=${3:-$(($(date +%N | sed 's/^0*//') % 32768))}
RANDOM=$seed
echo "seed $seed"
steps=40
ranks=2

must_train $ranks whole --set train.steps=$steps
whole=$(digest whole)
[ -n "$whole" ] || fail "the undisturbed run has no checkpoint"

# A half-made checkpoint that the life before did not leave behind: names are random.
half_made() {
  local path
  for path in "$work/run"/.tmp-step-*; do
    [ "$path" = "$left" ] || return 0
  done
  return 1
}
running() { kill -0 "$started" 2>/dev/null; }

# mpirun and its ranks; nothing where they have not started or have ended.
targets() {
  local pid
  for pid in $(children "$started"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mpirun ] && echo "$pid $(children "$pid")"
  done
}
all_started() {
  found=($(targets))
  [ ${#found[@]} -gt $ranks ] || ! running
}

# Until a checkpoint is being made, not always the first, and then some turns of a loop more: not always its beginning.
await_saving() {
  local skip=$((RANDOM % 4)) turns=$((RANDOM % 100))
  while running && ! half_made; do :; done
  while [ $skip -gt 0 ] && running; do
    skip=$((skip - 1))
    while running && half_made; do :; done
    while running && ! half_made; do :; done
  done
  while [ $turns -gt 0 ]; do turns=$((turns - 1)); done
}

inside=0 outside=0 lives=0 ended=0 left=
while [ $((inside + outside)) -lt "$kills" ]; do
  lives=$((lives + 1))
  left=$(compgen -G "$work/run/.tmp-step-*")
  [ $lives -le $((kills * 8 + 20)) ] || fail "seed $seed: $lives lives made $inside kills inside saving and $outside elsewhere, of $kills; the moments are badly chosen"
  "$local_sh" $ranks "$program" train "$config" --run "$work/run" --resume --set threads=1 --set eval.every=0 --set train.steps=$steps \
    --set checkpoint.every=1 >"$work/out" 2>"$log" </dev/null &
  started=$!
  if [ $inside -le $outside ] || [ $outside -ge $((kills / 2)) ]; then
    wait_until "mpirun and its ranks to start" all_started
    await_saving
  else
    sleep "$((RANDOM % 2)).$(printf %03d $((RANDOM % 1000)))"
    found=($(targets))
  fi
  [ ${#found[@]} = 0 ] || kill -9 "${found[$((RANDOM % ${#found[@]}))]}" 2>/dev/null
  code=0
  wait "$started" || code=$?
  wait_until "every process of a killed run to end" no_process
  if half_made; then
    inside=$((inside + 1))
  elif [ "$code" != 0 ]; then
    # A kill that was meant for a save and met none is one at another moment, as long as those are still wanted.
    [ $outside -ge $((kills / 2)) ] || outside=$((outside + 1))
  fi
  [ "$code" = 0 ] || [ "$code" = 137 ] || fail "seed $seed, life $lives: exit code $code where 137 (killed) or 0 (ended before) was expected"
  if [ "$code" = 0 ]; then
    expect_digest run "$whole" "seed $seed, life $lives: the run that ended"
    expect_tidy run
    expect_sound run
    ended=$((ended + 1))
    rm -r "$work/run"
  fi
done

must_train $ranks run --resume --set train.steps=$steps
expect_digest run "$whole" "seed $seed: after $inside kills inside saving and $outside elsewhere"
expect_tidy run
expect_sound run
expect_no_leftovers
echo "$inside kills inside saving and $outside elsewhere in $lives lives, $((ended + 1)) runs ended: the same state $whole"
