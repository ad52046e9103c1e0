#!/usr/bin/env bash
# Makes sure that the system packages which the build and the tests need are there: as root by
# apt-get, else it names the exact command and fails.
#
#   packages.sh         for the build and the tests
#   packages.sh bench   for the benchmarks as well
set -euo pipefail

missing=()
need() { # PACKAGE COMMAND...: the package is needed when the command fails
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

need build-essential cc --version
need build-essential make --version
need curl curl --version
need python3-venv python3 -c 'import ensurepip, venv'
need nodejs node --version
need npm npm --version
need lua5.1 lua5.1 -v
need redis-server redis-server --version
need haproxy haproxy -v
need nghttp2-client nghttp --version
if [ "${1:-}" = bench ]; then
  need nginx nginx -v
  need valgrind callgrind_control --version
  need strace strace -V
fi
[ ${#missing[@]} -eq 0 ] && exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "[packages] installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2 </dev/null
  "${install[@]}" >&2 </dev/null
else
  echo "missing system packages; on Debian or Ubuntu: sudo ${install[*]}" >&2
  exit 1
fi
