#!/bin/sh
# exported_symbols.sh EXECUTABLE: fails if it exports or imports a symbol of Protobuf (src/data/README.md says why).
set -eu
symbols=$(nm -DC "$1")
if ! printf '%s\n' "$symbols" | grep -q sentencepiece::; then
  echo "$1 does not use SentencePiece, so this test shows nothing"
  exit 1
fi
if printf '%s\n' "$symbols" | grep google::protobuf; then
  echo "$1 shares these symbols with libsentencepiece; link it through the CMake target switchyard_text"
  exit 1
fi
