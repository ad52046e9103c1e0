#!/usr/bin/env bash
# Installs the gateways that benchmarks compare with into a cache outside the tree, and prints its path
# on the last line of standard output: venv/bin/litellm is below it. Progress goes to standard error.
# Nothing is done when warm.
#
#   peers.sh          install what the lock file pins
#   peers.sh --lock   resolve requirements.in again and write the lock file
#
#   TUNDISH_CACHE   where the cache lives (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tundish)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TUNDISH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tundish}
started=$(date +%s)

say() { printf '[peers %3ds] %s\n' "$(($(date +%s) - started))" "$*" >&2; }

install_python() { # FOLDER REQUIREMENTS
  rm -rf "$1/venv"
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2
}

if [ "${1:-}" = --lock ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  say "resolving LiteLLM"
  install_python "$scratch" "$here/peers/requirements.in"
  "$scratch/venv/bin/pip" freeze --disable-pip-version-check >"$here/peers/requirements.lock"
  exit
fi

key=$(cat "$here/peers/requirements.lock" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)
out=$cache/peers/$key
mkdir -p "$out"
exec 9>"$cache/peers/lock"
flock 9

# A venv points at the interpreter that made it, which an upgrade of the system may have removed.
if [ ! -e "$out/ready" ] || ! "$out/venv/bin/python" -c '' 2>/dev/null; then
  rm -f "$out/ready"
  say "installing LiteLLM: a minute and 800 MB, once"
  install_python "$out" "$here/peers/requirements.lock" || { say "pip cannot install LiteLLM here"; exit 1; }
  touch "$out/ready"
fi
say "ready in $out"
printf '%s\n' "$out"
