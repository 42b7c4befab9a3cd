# Sourced by what starts mpirun. TERM, INT and HUP to the launcher become USR1 to mpirun: every rank finishes its step, saves,
# and leaves with 75.
# shellcheck shell=bash

# mpirun loses the signal, or dies of it, while it is still starting: repeat it for as long as mpirun lives.
mpirun='' repeater='' asked=0
ask() {
  asked=1 again=1
  if [ -n "$mpirun" ] && [ -z "$repeater" ]; then
    (while kill -USR1 "$mpirun" 2>/dev/null; do sleep 0.5; done) </dev/null >/dev/null 2>&1 &
    repeater=$!
  fi
}
trap ask TERM INT HUP

# attend PROCESS: waits for mpirun, which was started as this process; what it left with is in $code.
attend() {
  mpirun=$1
  [ "$asked" = 0 ] || ask
  # A trapped signal ends wait early: wait again, which also gives the code of a process that has ended meanwhile.
  again=1
  while [ "$again" = 1 ]; do
    again=0
    wait "$mpirun"
    code=$?
  done
  [ -z "$repeater" ] || kill "$repeater" 2>/dev/null
  # Asked to stop before anybody could listen: nothing was lost, and --resume goes on from the last checkpoint.
  if [ "$asked" = 1 ] && [ "$code" = 138 ]; then code=75; fi
}
