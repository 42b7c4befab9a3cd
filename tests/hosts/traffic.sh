#!/usr/bin/env bash
# traffic.sh PROGRAM: what tc counts on the links of two hosts is what the count matrix says leaves them, and at most 8 % of
# packets' headers and acknowledgements; by every transport, from few ranks that send much and many that send nothing.
source "$(dirname "$0")/lib.sh" "$1"

# Rows are senders. Ranks 0 and 1 share a host, 2 and 3 the other; rank 3 sends nothing, 1 gets nothing from its host.
cat >"$work/matrix" <<'MATRIX'
64000 0      1200000 32000
320   128000 480000  640000
960000 192000 0      320000
0     0      0       0
MATRIX
between=$((1200000 + 32000 + 480000 + 640000 + 960000 + 192000))

# sent TRANSPORT ITERATIONS: bytes that both hosts' links sent in so many exchanges and all that goes with them.
sent() {
  code=0
  "$hosts_sh" 2 --slots 2 --rate 1gbit --traffic "$work/traffic" -- "$program" profile alltoall --pattern "matrix:$work/matrix" --pairs all \
    --transport "$1" --iterations "$2" --warm-up 0 --check 0 >"$work/out" 2>"$log" </dev/null || code=$?
  [ "$code" = 0 ] || fail "profile alltoall on two hosts by $1: code $code"
  awk '{ sum += $2 } END { printf "%d\n", sum }' "$work/traffic"
}

for transport in TWO_LEVEL MPI_PAIRWISE MPI; do
  few=$(sent $transport 5) || exit 1
  many=$(sent $transport 25) || exit 1
  payload=$((20 * between))
  awk -v bytes=$((many - few)) -v payload=$payload 'BEGIN { exit !(bytes >= payload && bytes <= 1.08 * payload) }' ||
    fail "$transport: 20 exchanges more sent $((many - few)) bytes between the hosts, of which $payload are in the count matrix: expected at most 8 % more than these"
  echo "$transport: $((many - few)) bytes on the links for $payload of payload"
done
