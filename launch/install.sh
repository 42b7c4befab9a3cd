#!/usr/bin/env bash
# Installs what switchyard builds and runs with, from Debian 12's packages. Asks for sudo where it is needed, and does
# nothing when everything is there.
set -euo pipefail

packages=(
  ca-certificates git g++ cmake ninja-build pkg-config
  libopenmpi-dev openmpi-bin libdnnl-dev
  libprotobuf-dev protobuf-compiler libsentencepiece-dev
  nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev
  libxxhash-dev libssl-dev zlib1g-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  dict-gcide bzip2 xz-utils binutils procps python3-minimal
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install: every package is here"
  exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install: needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "install: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install: done"
