# Shared by the scripts of this folder; each begins with:  source "$(dirname "$0")/lib.sh" PROGRAM
# $hosts_sh is launch/hosts.sh. Exit 77 with a sentence where it cannot make a host.
source "$(dirname "${BASH_SOURCE[0]}")/../reliability/lib.sh" "$1"
hosts_sh=$root/launch/hosts.sh

"$hosts_sh" 1 -- true >"$work/out" 2>"$log" || {
  echo "skipped: launch/hosts.sh cannot make a host here: $(tail -n 1 "$log")"
  exit 77
}
