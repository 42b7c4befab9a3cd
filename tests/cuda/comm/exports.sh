#!/bin/sh
# exports.sh LIBRARY: fails unless its one symbol for others is the plug-in's entry.
set -eu
symbols=$(nm -D --defined-only "$1" | awk '{ print $NF }')
if [ "$symbols" != switchyard_accelerator ]; then
  echo "$1 exports these symbols, where switchyard_accelerator alone is expected (comm/nccl/plugin.map):"
  printf '%s\n' "$symbols" | head -50
  exit 1
fi
