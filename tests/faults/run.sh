#!/usr/bin/env bash
# Plants the errors of tests/faults/*.patch, one at a time, in a copy of the tree, and demands that each is caught by name.
#
#   tests/faults/run.sh                all of them
#   tests/faults/run.sh NAME...        only these
#   tests/faults/run.sh --in DIR ...   works in DIR and leaves it there, so that the next run builds only what changed
#
# Prints a line per fault: its name, its detector, what named it. Exits with 1 if one was not caught.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source_root=$PWD
deadline=600  # seconds for one run of a detector; only a fault that hangs reaches it

die() { echo "faults: $1" >&2; exit 2; }

# Prints the value of a header line of a patch: field KEY FILE
field() { sed -n "/^--- /q; s/^$1: *//p" "$2"; }

# Copies the tracked files whose contents differ, so that a kept folder is built incrementally.
copy_tree() {
  git ls-files -z >"$scratch/files" || die "cannot list the tracked files of $source_root; run it in a git checkout"
  local file
  while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    cmp -s "$file" "$tree/$file" && continue
    mkdir -p "$tree/$(dirname "$file")"
    cp "$file" "$tree/$file"
  done <"$scratch/files"
}

# The target of a detector, of which the first word is verify or a test's executable.
target_of() { [ "$1" = verify ] && echo switchyard || echo "$1"; }

build() { ninja -C "$build" -j "$(nproc)" "$@" >"$scratch/build.log" 2>&1; }

# Runs a detector with its output in $log; answers with its exit code.
detect() {
  local program=$1
  shift
  if [ "$program" = verify ]; then
    timeout "$deadline" "$build/switchyard" verify "$tree/configs/lm_tiny.textproto" "$@" >"$log" 2>&1
  else
    timeout "$deadline" "$build/tests/$program" --gtest_filter="$1" >"$log" 2>&1
  fi
}

# What a detector complained about: the first tensor that differs of each run, or the names of failed tests.
named_by() {
  if [ "$1" = verify ]; then
    sed -n 's/.*; first tensor: \([^,]*\).*/\1/p' "$log"
  else
    sed -n 's/^\[  FAILED  \] \([^ ,]*\.[^ ,]*\).*/\1/p' "$log"
  fi | sort -u
}

# The tree without faults must pass the detector, and the detector must look at something.
passes_without_faults() {
  local code=0
  build "$(target_of "$1")" || { problem="the tree without faults does not build"; return 1; }
  detect "$@" || code=$?
  if [ $code -ne 0 ] || ! grep -qE '^identical$|^\[  PASSED  \] [1-9]' "$log" || grep -q 'SKIPPED' "$log"; then
    problem="the tree without faults does not pass this detector (exit code $code)"
    return 1
  fi
}

# Builds with the fault planted, runs its detector: sets `named`, or `problem`.
caught() {
  local expects=$1 code=0 wrong
  shift
  build "$(target_of "$1")" || { problem="it does not build"; return 1; }
  detect "$@" || code=$?
  named=$(named_by "$1")
  [ $code -eq 1 ] || { problem="expected exit code 1, found $code"; return 1; }
  [ -n "$named" ] || { problem="nothing was named"; return 1; }
  wrong=$(grep -vxE -- "$expects" <<<"$named" | paste -sd ' ')
  [ -z "$wrong" ] || { problem="expected $expects, found $wrong"; return 1; }
}

# Tries one patch: prints its line.
try() {
  local name=$1 patch=$source_root/tests/faults/$1.patch detector words evidence verdict=0
  problem="" named=""
  rm -f "$log" "$scratch/build.log"
  detector=$(field detector "$patch")
  read -ra words <<<"$detector"
  if [ -z "${sound[$detector]-}" ]; then
    if passes_without_faults "${words[@]}"; then sound[$detector]=yes; else sound[$detector]=no; fi
  fi
  if [ "${sound[$detector]}" = no ]; then
    : "${problem:=the tree without faults does not pass this detector}"
    verdict=1
  elif ! (cd "$tree" && git apply "$patch") >"$scratch/apply.log" 2>&1; then
    problem="it no longer applies: $(head -1 "$scratch/apply.log")"
    verdict=1
  else
    planted=$patch
    caught "$(field expects "$patch")" "${words[@]}" || verdict=1
    (cd "$tree" && git apply -R "$patch") || die "cannot take $name out of $tree again"
    planted=""
  fi
  if [ $verdict -eq 0 ]; then
    printf 'caught  %-38s %-46s %s\n' "$name" "$detector" "$(paste -sd ' ' <<<"$named")"
  else
    printf 'MISSED  %-38s %-46s %s\n' "$name" "$detector" "$problem"
    for evidence in "$log" "$scratch/build.log"; do
      [ -f "$evidence" ] && tail -15 "$evidence" | sed 's/^/        /' && break
    done
  fi
  return $verdict
}

clean_up() {
  if [ -n "$planted" ]; then (cd "$tree" && git apply -R "$planted") || true; fi
  if [ "$kept" = no ]; then rm -rf "$scratch"; fi
}

kept=no
if [ "${1-}" = --in ]; then
  kept=yes
  mkdir -p "${2:?faults: --in needs a folder}"
  scratch=$(cd "$2" && pwd)
  shift 2
else
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-faults-XXXXXX")
fi
tree=$scratch/tree build=$scratch/build log=$scratch/detector.log planted=""
trap clean_up EXIT
trap 'exit 130' INT TERM
mkdir -p "$tree"
export CCACHE_BASEDIR=$scratch CCACHE_NOHASHDIR=1  # objects are then the same in any scratch folder
export GIT_CEILING_DIRECTORIES=$scratch            # the copy is no part of a checkout around it

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for patch in tests/faults/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi
declare -A wanted=()
for name in "${names[@]}"; do
  patch=tests/faults/$name.patch
  [ -f "$patch" ] || die "there is no $patch"
  if [ -z "$(field detector "$patch")" ] || [ -z "$(field expects "$patch")" ]; then die "$patch must begin with the lines 'detector: ...' and 'expects: ...'"; fi
  wanted[$(target_of "$(field detector "$patch" | cut -d ' ' -f 1)")]=yes
done

copy_tree
cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log" >&2; die "cmake failed"; }
build "${!wanted[@]}" || { tail -30 "$scratch/build.log" >&2; die "the tree without faults does not build"; }

declare -A sound=()
passed=0 failed=0
for name in "${names[@]}"; do
  if try "$name"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
