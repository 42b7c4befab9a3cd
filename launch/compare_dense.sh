#!/usr/bin/env bash
# Trains a sparse model and its dense twin of equal FLOPs, and prints what each reached on the held-out text.
#
#   launch/compare_dense.sh [CONFIG_SPARSE CONFIG_DENSE [train's arguments, such as --set eval.every=100]]
#
# 1. Both twins train with every rate of the grid, on the first seed.
# 2. Each trains again with its own best rate on every other seed, for equally many steps.
# 3. With SPARSE_STEPS the sparse twin also trains for so many steps only, its schedule with it.
# 4. With SAME_SECONDS=1 the dense twin also trains for as many seconds as the sparse one took.
#
# Runs that are finished are not repeated: start it again after an interruption, or to add seeds and rates.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/compare_dense.sh [CONFIG_SPARSE CONFIG_DENSE [arguments of train...]]
environment (defaults):
  RATES="1e-3 2e-3 4e-3"   learning rates that both twins try on the first seed
  SEEDS="1 2 3"            seeds that the best rate is run with
  STEPS                    steps of a run, and of its schedule (those of CONFIG_SPARSE)
  SPARSE_STEPS             fewer steps, with which sparse also tries to reach what dense reaches
  SAME_SECONDS=0           1: also dense for as many seconds as sparse took
  RANKS=1 THREADS=         ranks, and threads of each (all cores)
  DATA                     folder of the tokens (that of the configuration)
  OUT=runs/compare         where the runs, the table and the page are written
  SWITCHYARD               the program (build/switchyard)
USAGE
}

fail() {
  echo "compare_dense: $1" >&2
  exit "${2-1}"
}

case ${1-} in -h | --help) usage; exit 0 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 0 ]; then set -- "$here/configs/lm_small.textproto" "$here/configs/lm_small_dense.textproto"; fi
if [ $# -lt 2 ]; then usage >&2; exit 2; fi
sparse_config=$1 dense_config=$2
shift 2
common=("$@")
program=${SWITCHYARD:-$here/build/switchyard}
out=${OUT:-runs/compare}
ranks=${RANKS:-1}
read -ra rates <<<"${RATES:-1e-3 2e-3 4e-3}"
read -ra seeds <<<"${SEEDS:-1 2 3}"

[ -x "$program" ] || fail "$program is no program; run launch/build.sh, or name one in SWITCHYARD"
for file in "$sparse_config" "$dense_config"; do [ -r "$file" ] || fail "cannot read $file" 74; done
for number in "${rates[@]}"; do
  [[ $number =~ ^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$ ]] || fail "RATES holds '$number', which is no learning rate" 2
done
for number in "${seeds[@]}" "$ranks" ${STEPS:+"$STEPS"} ${SPARSE_STEPS:+"$SPARSE_STEPS"} ${THREADS:+"$THREADS"}; do
  [[ $number =~ ^[0-9]+$ ]] || fail "'$number' in SEEDS, RANKS, STEPS, SPARSE_STEPS or THREADS is no whole number" 2
done
if [ ${#rates[@]} = 0 ] || [ ${#seeds[@]} = 0 ]; then fail "RATES and SEEDS need at least one number each" 2; fi
[ -z "${DATA-}" ] || common+=(--set "data.corpus=$DATA")
[ -z "${THREADS-}" ] || common+=(--set "threads=$THREADS")
mkdir -p "$out"

# A signal is passed on to the run at hand, which saves and leaves with 75. Asynchronous commands do not hear INT.
child='' stopped=0
stop() {
  stopped=1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT HUP

# Runs a command in the background and waits for it, whatever signals arrive meanwhile; answers with its code.
attend() {
  local code=0
  "$@" &
  child=$!
  while :; do
    wait "$child" && code=0 || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  child=''
  return "$code"
}

# number FILE NAME: the value of the last "NAME": number in a file of JSON; nothing where there is none.
number() { { grep -oE "\"$2\": ?-?[0-9][-+.0-9eE]*" "$1" || true; } | tail -n 1 | sed 's/.*: *//'; }
value() { "$program" summary "$1" --resolved | awk -v name="$2:" '$1 == name { print $2; exit }'; }

# Seconds that a run's steps took. Without the run's own sum: each written line stands for the steps since the one before.
train_seconds() {
  local seconds
  seconds=$(number "$1/metrics.jsonl" seconds)
  if [ -n "$seconds" ]; then
    printf '%.1f\n' "$seconds"
    return
  fi
  grep -oE '"(step|step_seconds)": ?[-+.0-9eE]+' "$1/metrics.jsonl" | awk -F: '
    /"step"/ { step = $2 }
    /"step_seconds"/ { sum += $2 * (step - last); last = step }
    END { printf "%.1f\n", sum }'
}

# Held-out bits per byte; of a model that is not one of text, the held-out loss.
score() {
  local bits
  bits=$(number "$1/eval.json" bits_per_byte)
  printf "%.4f\n" "${bits:-$(number "$1/eval.json" loss)}"
}

# experiment TWIN RATE SEED STEPS: a trained and evaluated run, its folder in $folder.
experiment() {
  local config=$sparse_config steps=$4 arguments asked name code=0
  case $1 in dense*) config=$dense_config ;; esac
  name=$1_rate$2_seed$3
  folder=$out/$name
  arguments=(--set "train.steps=$steps" --set "optimizer.schedule_steps=$steps" --set "optimizer.learning_rate=$2" --set "seed=$3" --set checkpoint.keep=1
             "${common[@]}")
  asked="$(sha256sum <"$config") ${arguments[*]}"
  if [ -f "$folder/eval.json" ]; then
    [ "$(cat "$folder/asked.txt" 2>/dev/null)" = "$asked" ] ||
      fail "$folder was made with another configuration or other settings; choose another OUT, or remove that folder" 2
    echo "$name: finished before, $(score "$folder")"
    return
  fi
  echo "$name: $steps steps"
  attend "$here/launch/local.sh" "$ranks" "$program" train "$config" --run "$folder" --resume "${arguments[@]}" >>"$out/$name.log" 2>&1 || code=$?
  if [ "$code" != 0 ] || [ "$stopped" = 1 ]; then interrupted "$code" "$out/$name.log"; fi
  attend "$here/launch/local.sh" "$ranks" "$program" eval "$folder" --json >"$folder/eval.json.new" 2>>"$out/$name.log" || code=$?
  if [ "$code" != 0 ] || [ "$stopped" = 1 ]; then interrupted "$code" "$out/$name.log"; fi
  echo "$asked" >"$folder/asked.txt"
  mv "$folder/eval.json.new" "$folder/eval.json"
  echo "$name: $(score "$folder") after $(train_seconds "$folder") s"
}

interrupted() {
  if [ "$stopped" = 1 ] || [ "$1" = 75 ]; then
    echo "compare_dense: stopped as asked; start it again to go on" >&2
    exit 75
  fi
  tail -n 3 "$2" >&2
  fail "a run failed with $1; its log is $2" "$1"
}

# best_rate TWIN: the rate with the lowest score on the first seed, in $best.
best_rate() {
  local rate
  best=$(for rate in "${rates[@]}"; do echo "$(score "$out/$1_rate${rate}_seed${seeds[0]}") $rate"; done | sort -g | head -n 1 | cut -d ' ' -f 2)
  local sorted
  sorted=$(printf '%s\n' "${rates[@]}" | sort -g)
  if [ "${#rates[@]}" -gt 1 ] && { [ "$best" = "$(head -n 1 <<<"$sorted")" ] || [ "$best" = "$(tail -n 1 <<<"$sorted")" ]; }; then
    echo "note: the best rate of $1, $best, is at the edge of RATES; a rate beyond it may be better"
  fi
}

# row TWIN RATE SEED
row() {
  local folder=$out/$1_rate$2_seed$3
  printf '%-16s %10s %6s %8s %14s %10s\n' "$1" "$2" "$3" "$(number "$folder/eval.json" step)" "$(score "$folder")" "$(train_seconds "$folder")"
}

# summary_row TWIN RATE: mean and standard deviation (n - 1) over the seeds.
summary_row() {
  local seed
  for seed in "${seeds[@]}"; do echo "$(score "$out/$1_rate$2_seed$seed") $(train_seconds "$out/$1_rate$2_seed$seed")"; done |
    awk -v twin="$1" -v rate="$2" '
      { n++; sum += $1; squares += $1 * $1; seconds += $2 }
      END {
        mean = sum / n
        variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0
        printf "%-16s rate %s: mean %.4f, standard deviation %.4f over %d seeds, %.0f s a run\n", twin, rate, mean, sqrt(variance > 0 ? variance : 0), n, seconds / n
      }'
}

steps=${STEPS:-$(value "$sparse_config" steps)}
flops() { number <("$program" summary "$1" --json) training_flops_per_token; }
sparse_flops=$(flops "$sparse_config") dense_flops=$(flops "$dense_config")
awk -v a="$sparse_flops" -v b="$dense_flops" 'BEGIN {
  printf "FLOPs per trained token: sparse %.4g, dense %.4g\n", a, b
  if (a > 1.05 * b || b > 1.05 * a) print "note: they differ by more than 5 %, so these are no twins"
}'

for rate in "${rates[@]}"; do
  for twin in sparse dense; do experiment "$twin" "$rate" "${seeds[0]}" "$steps"; done
done
best_rate sparse
sparse_best=$best
best_rate dense
dense_best=$best
for seed in "${seeds[@]:1}"; do
  experiment sparse "$sparse_best" "$seed" "$steps"
  experiment dense "$dense_best" "$seed" "$steps"
done

if [ -n "${SPARSE_STEPS-}" ]; then
  for seed in "${seeds[@]}"; do experiment sparse_fewer "$sparse_best" "$seed" "$SPARSE_STEPS"; done
fi
if [ "${SAME_SECONDS:-0}" = 1 ]; then
  # One number of steps for all seeds, from the mean time of a step of each twin.
  seconds_of() { for seed in "${seeds[@]}"; do train_seconds "$out/$1_rate$2_seed$seed"; done | awk '{ sum += $1 } END { print sum }'; }
  longer=$out/steps_of_equal_seconds.txt
  [ -s "$longer" ] || awk -v n="$steps" -v a="$(seconds_of sparse "$sparse_best")" -v b="$(seconds_of dense "$dense_best")" \
    'BEGIN { printf "%d\n", n * a / b + 0.5 }' >"$longer"
  for seed in "${seeds[@]}"; do experiment dense_seconds "$dense_best" "$seed" "$(cat "$longer")"; done
fi

table() {
  printf '%-16s %10s %6s %8s %14s %10s\n' twin rate seed steps bits/byte seconds
  local twin rate seed
  for twin in sparse dense; do
    for rate in "${rates[@]}"; do row "$twin" "$rate" "${seeds[0]}"; done
  done
  for seed in "${seeds[@]:1}"; do
    row sparse "$sparse_best" "$seed"
    row dense "$dense_best" "$seed"
  done
  if [ -n "${SPARSE_STEPS-}" ]; then
    for seed in "${seeds[@]}"; do row sparse_fewer "$sparse_best" "$seed"; done
  fi
  if [ "${SAME_SECONDS:-0}" = 1 ]; then
    for seed in "${seeds[@]}"; do row dense_seconds "$dense_best" "$seed"; done
  fi
  echo
  summary_row sparse "$sparse_best"
  summary_row dense "$dense_best"
  if [ -n "${SPARSE_STEPS-}" ]; then summary_row sparse_fewer "$sparse_best"; fi
  if [ "${SAME_SECONDS:-0}" = 1 ]; then summary_row dense_seconds "$dense_best"; fi
}
echo
table | tee "$out/table.txt"

runs=()
for folder in "$out"/sparse*/ "$out"/dense*/; do [ ! -f "$folder/eval.json" ] || runs+=("${folder%/}"); done
echo "all runs as a page:"
"$program" report "${runs[@]}" --output "$out/report.html"
