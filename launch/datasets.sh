#!/usr/bin/env bash
# Makes data sets without a network but for Debian's packages.
#
#   launch/datasets.sh gcide-pos [DIR]          labelled texts: definitions of a dictionary and the part of speech of what they
#                                               define; DIR (data/gcide-pos) holds train.tsv, heldout.tsv and their tokens
#   launch/datasets.sh folder-per-class DIR     the same texts in aclImdb's layout: DIR/train/CLASS/N.txt, DIR/test/CLASS/N.txt
#
# SWITCHYARD names another build of the program than build/switchyard.
set -euo pipefail
usage() { echo "usage: launch/datasets.sh gcide-pos [DIR] | folder-per-class DIR" >&2; exit 2; }

[ $# -ge 1 ] && [ $# -le 2 ] || usage
case $1 in
  gcide-pos) output=${2:-} ;;
  folder-per-class) output=${2:?datasets: folder-per-class needs a folder to be made} ;;
  *) usage ;;
esac
[ -z "$output" ] || output=$(realpath -m -- "$output")
program=${SWITCHYARD:+$(realpath -- "$SWITCHYARD")}
cd "$(dirname "$0")/.."
output=${output:-data/gcide-pos}

if [ ! -e /usr/share/dictd/gcide.dict.dz ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "datasets: needs root or sudo to install dict-gcide" >&2; exit 1; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends dict-gcide >/dev/null
fi
program=${program:-build/switchyard}
if [ ! -x "$program" ]; then
  launch/install.sh
  launch/build.sh
fi

if [ "$1" = gcide-pos ] && [ -e "$output/train.examples" ]; then
  echo "$output is here already"
  exit 0
fi
layout=tokens
[ "$1" = gcide-pos ] || layout=folders
"$program" dataset gcide-pos --layout "$layout" --output "$output"
