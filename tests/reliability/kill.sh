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
steps=25
ranks=2

must_train $ranks whole --set train.steps=$steps
whole=$(digest whole)
[ -n "$whole" ] || fail "the undisturbed run has no checkpoint"

half_made() { compgen -G "$work/run/.tmp-step-*" >/dev/null; }
running() { kill -0 "$started" 2>/dev/null; }

# The next checkpoint that is being made, and then some turns of a loop more: not always its first moment.
await_saving() {
  while running && ! half_made; do :; done
  local turns=$((RANDOM % 40))
  while [ $turns -gt 0 ]; do turns=$((turns - 1)); done
}

# mpirun, or one of its ranks; nothing where they have not started or have ended.
victim() {
  local mpirun pid found=()
  for pid in $(children "$started"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mpirun ] && mpirun=$pid
  done
  [ -n "${mpirun-}" ] || return
  found=("$mpirun" $(children "$mpirun"))
  echo "${found[$((RANDOM % ${#found[@]}))]}"
}

inside=0 outside=0 lives=0 ended=0
while [ $((inside + outside)) -lt "$kills" ]; do
  lives=$((lives + 1))
  [ $lives -le $((kills * 8 + 20)) ] || fail "seed $seed: $lives lives made $inside kills inside saving and $outside elsewhere, of $kills; the moments are badly chosen"
  "$local_sh" $ranks "$program" train "$config" --run "$work/run" --resume --set threads=1 --set eval.every=0 --set train.steps=$steps \
    --set checkpoint.every=1 >"$work/out" 2>"$log" </dev/null &
  started=$!
  if [ $inside -le $outside ] || [ $outside -ge $((kills / 2)) ]; then
    await_saving
  else
    sleep "$((RANDOM % 2)).$(printf %03d $((RANDOM % 1000)))"
  fi
  pid=$(victim)
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || pid=
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
