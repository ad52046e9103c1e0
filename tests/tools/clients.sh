#!/usr/bin/env bash
# Installs the client packages that end-to-end tests drive into a cache outside the tree, and
# prints its path on the last line of standard output: venv/bin/python and node_modules are below it.
# Progress goes to standard error. Nothing is done when warm.
#
#   clients.sh          install what the lock files pin
#   clients.sh --lock   resolve requirements.in and package.json again and write the lock files
#
#   TUNDISH_CACHE   where the cache lives (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tundish)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TUNDISH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tundish}
started=$(date +%s)

say() { printf '[clients %3ds] %s\n' "$(($(date +%s) - started))" "$*" >&2; }

install_python() { # FOLDER REQUIREMENTS
  rm -rf "$1/venv"
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2
}

if [ "${1:-}" = --lock ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  say "resolving the Python packages"
  install_python "$scratch" "$here/clients/requirements.in"
  "$scratch/venv/bin/pip" freeze --disable-pip-version-check >"$here/clients/requirements.lock"
  say "resolving the Node packages"
  cp "$here/clients/package.json" "$scratch/"
  (cd "$scratch" && npm install --package-lock-only --no-audit --no-fund --loglevel=error >&2)
  # Without the addresses of one registry the lock file works with every mirror.
  grep -v '"resolved":' "$scratch/package-lock.json" >"$here/clients/package-lock.json"
  exit
fi

key=$(cat "$here/clients/package-lock.json" "$here/clients/requirements.lock" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)
out=$cache/clients/$key
mkdir -p "$out"
exec 9>"$cache/clients/lock"
flock 9

# A venv points at the interpreter that made it, which an upgrade of the system may have removed.
if [ ! -e "$out/ready" ] || ! "$out/venv/bin/python" -c '' 2>/dev/null; then
  rm -f "$out/ready"
  say "installing the packages for Python (1 of 2)"
  install_python "$out" "$here/clients/requirements.lock"
  say "installing the packages for Node (2 of 2)"
  cp "$here/clients/package.json" "$here/clients/package-lock.json" "$out/"
  (cd "$out" && npm ci --no-audit --no-fund --loglevel=error >&2)
  touch "$out/ready"
fi
say "ready in $out"
printf '%s\n' "$out"
