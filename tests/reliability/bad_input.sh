#!/usr/bin/env bash
# bad_input.sh PROGRAM RANKS: what users get wrong is one sentence, the documented exit code, and nothing half-written.
# RANKS is 0 (without mpirun) or more.
source "$(dirname "$0")/lib.sh" "$1"
ranks=${2:?expected a number of ranks}

# refused CODE TEXT WHAT ARGUMENTS...: training with these arguments is refused before it writes anything.
refused() {
  local want=$1 text=$2 what=$3
  shift 3
  launch "$ranks" train "$@" --run "$work/run"
  expect_refusal "$want" "$text" "$what"
  expect_no_run run "$what"
  rm -rf "$work/run"
}
# file CODE TEXT WHAT CONTENT: the same for a configuration with this content.
file() {
  printf '%s' "$4" >"$work/file.textproto"
  refused "$1" "$2" "$3" "$work/file.textproto"
}

configuration_files() {
  refused 74 "No such file" "a missing configuration" "$work/missing.textproto"
  mkdir "$work/folder"
  refused 74 "folder" "a folder as configuration" "$work/folder"
  refused 74 "/proc/self/mem" "a configuration that cannot be read" /proc/self/mem
  file 2 "frobs" "an unknown field" "$(cat "$config") frobs: 1"
  file 2 'did you mean "width"?' "a misspelt field" 'model { widht: 32 }'
  file 2 "seed" "a field given twice" "$(cat "$config") seed: 8"
  file 2 "learning_rate is nan" "NaN" "$(sed 's/learning_rate: .*/learning_rate: nan/' "$config")"
  file 2 "model.width is -32" "a negative number" "$(sed 's/ width: .*/ width: -32/' "$config")"
  file 2 ":7:10: Integer out of range" "a number beyond 64 bits" "$(sed 's/ width: .*/ width: 99999999999999999999999/' "$config")"
  file 2 "1000000000000 but must be" "a huge number" "$(sed 's/ width: .*/ width: 1000000000000/' "$config")"
  file 2 "" "10,000 nested brackets" "$(printf 'model {%.0s' {1..10000})"
  head -c 4000 "$program" >"$work/garbage.textproto"
  refused 2 "" "binary garbage" "$work/garbage.textproto"
  file 2 "model.vocabulary is 0" "an empty configuration" ""
}

command_line() {
  refused 2 "train.steps" "an override that is no number" "$config" --set train.steps=many
  refused 2 'did you mean "steps"?' "an override of a misspelt field" "$config" --set train.stepz=3
  refused 2 "train.lanes" "fewer lanes than ranks" "$config" --set train.lanes=$((ranks > 1 ? ranks - 1 : 0))
  refused 2 "--frobnicate" "an unknown option" "$config" --frobnicate
  refused 74 "nowhere" "a corpus that is not there" "$config" --set data.corpus="$work/nowhere"
  launch "$ranks" frobnicate
  expect_refusal 2 'there is no command "frobnicate"' "an unknown command"
  launch "$ranks" train
  expect_refusal 2 "CONFIG" "no configuration"
  if [ "$ranks" -gt 1 ]; then
    launch "$ranks" doctor
    expect_refusal 2 "doctor works alone, but $ranks ranks were started" "a command that knows no ranks"
  fi
  launch "$ranks" eval "$work/missing"
  expect_refusal 74 "is no directory" "evaluation of a missing run"
  mkdir -p "$work/hollow"
  launch "$ranks" eval "$work/hollow"
  expect_refusal 65 "holds no checkpoint" "evaluation of a directory without a run"
}

# damaged WHAT COMMAND...: the command spoils the token files of a copy, which are then refused as data.
damaged() {
  local what=$1
  shift
  rm -rf "$work/corpus"
  cp -r "$work/tokens" "$work/corpus"
  (cd "$work/corpus" && "$@") || fail "cannot make $what"
  refused 65 "corpus/" "$what" "$config" --set data.corpus="$work/corpus"
}

token_files() {
  for i in {1..300}; do echo "document number $i of a little text"; done >"$work/text"
  "$program" tokenize "$work/text" -o "$work/tokens" --tokenizer bytes --hold-out 5 >/dev/null 2>"$log" || fail "cannot tokenize"
  "$program" tokenize "$root"/*/README.md "$root"/src/*/README.md -o "$work/pieces" --vocabulary 500 --hold-out 5 >/dev/null 2>"$log" || fail "cannot train a tokenizer"
  damaged "a token file without its last byte" truncate -s -1 train.tokens
  damaged "half a token file" truncate -s 9000 train.tokens
  damaged "an empty token file" truncate -s 0 train.tokens
  damaged "a token file with a bit flipped in its header" flip train.tokens 40
  damaged "a token file with a bit flipped in its tokens" flip train.tokens 9000
  damaged "a token file with a bit flipped at its end" flip heldout.tokens -1
  damaged "a token file of another tokenizer" cp ../pieces/train.tokens .
  damaged "a tokenizer with a bit flipped" flip tokenizer -1
  refused 2 "model.vocabulary" "a vocabulary larger than the model's" "$config" --set data.corpus="$work/pieces"
  rm "$work/tokens/heldout.tokens"
  refused 74 "heldout.tokens" "a missing token file" "$config" --set data.corpus="$work/tokens"
}

# tokenize works on one rank: its mistakes need no ranks.
text() {
  : >"$work/empty"
  launch 0 tokenize "$work/empty" -o "$work/made" --tokenizer bytes
  expect_refusal 65 "" "an empty text"
  printf 'caf\xe9\n' >"$work/latin"
  launch 0 tokenize "$work/latin" -o "$work/made" --tokenizer bytes
  expect_refusal 65 "UTF-8" "a text that is not UTF-8"
  launch 0 tokenize "$work/missing" -o "$work/made" --tokenizer bytes
  expect_refusal 74 "No such file" "a missing text"
  expect_nothing_at "$work/made" "tokenizing what cannot be"
}

configuration_files
command_line
token_files
[ "$ranks" != 0 ] || text
expect_no_leftovers
echo "every mistake was one sentence with its exit code"
