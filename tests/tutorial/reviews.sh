#!/usr/bin/env bash
# The tutorial from end to end on real texts in aclImdb's layout, as its readers start it: reviews.sh PROGRAM [EPOCHS]
#
# The texts are gcide-pos, one folder for each class. Both models of the tutorial are trained on 2 ranks, evaluated, and
# asked about a sentence. Always answering "noun" is right for 58 % of the texts.
set -eu
program=$(realpath "${1:?expected the path of the program}")
epochs=${2:-1}
here=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$program" dataset gcide-pos --layout folders --output aclImdb
"$program" tokenize --labelled aclImdb --tokenizer words --vocabulary 20000 --output reviews
number() { grep -oE "\"$1\": ?[-+.0-9eE]+" | head -n 1 | sed 's/.*: *//'; }
failed=0
for model in tutorial stacked; do
  "$here/launch/local.sh" 2 "$program" train "$here/configs/classify_$model.textproto" --run "$model" --set data.corpus=reviews \
    --set model.classifier.classes=4 --set threads=1 --set "train.epochs=$epochs" >"$model.log" 2>&1 || { tail -n 3 "$model.log" >&2; exit 1; }
  report=$("$program" eval "$model" --json)
  accuracy=$(number accuracy <<<"$report") f1=$(number macro_f1 <<<"$report")
  answer=$("$program" predict "$model" --text "to move quickly on foot" --explain)
  printf '%-10s %s epochs: held-out accuracy %.4f, macro F1 %.4f\n%s\n' "$model" "$epochs" "$accuracy" "$f1" "$answer"
  awk -v a="$accuracy" 'BEGIN { exit !(a > 0.9) }' || { echo "FAILED: $model reached only $accuracy after $epochs epochs" >&2; failed=1; }
  grep -q verb <<<"$answer" || { echo "FAILED: $model says nothing of verbs" >&2; failed=1; }
done
exit $failed
