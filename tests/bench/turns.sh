# Sourced by the races: two programs are started once, warm up one after the other, and then do their timed blocks in turns.
# The one whose turn it is not sleeps. The caller defines ours ARGUMENTS... and theirs ARGUMENTS..., which pass them on
# (--blocks N --turns PATH: the program makes PATH.ready.I before block I and waits for PATH.go.I), and $pairs.
# shellcheck shell=bash
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$work"' EXIT
tcmalloc=$(ls /usr/lib/*/libtcmalloc_minimal.so.4 2>/dev/null | head -n 1 || true)
[ -n "$tcmalloc" ] || echo "$0: the peer runs without tcmalloc (libtcmalloc-minimal4), which flatters switchyard" >&2

ready() { # NAME BLOCK PID: until NAME waits for its turn at BLOCK; the last block ends with its process
  while kill -0 "$3" 2>/dev/null && [ ! -e "$work/$1.ready.$2" ]; do sleep 0.1; done
  [ "$2" = "$pairs" ] || [ -e "$work/$1.ready.$2" ] || { cat "$work/$1.log" >&2; exit 1; }
}

race() { # leaves the lines of JSON in $work/ours.log and $work/theirs.log
  ours --blocks "$pairs" --turns "$work/ours" >"$work/ours.log" 2>&1 </dev/null &
  local ours_pid=$! theirs_pid i
  ready ours 0 $ours_pid
  theirs --blocks "$pairs" --turns "$work/theirs" >"$work/theirs.log" 2>&1 </dev/null &
  theirs_pid=$!
  ready theirs 0 $theirs_pid
  for ((i = 0; i < pairs; ++i)); do
    touch "$work/ours.go.$i"
    ready ours $((i + 1)) $ours_pid
    touch "$work/theirs.go.$i"
    ready theirs $((i + 1)) $theirs_pid
  done
  wait
}
