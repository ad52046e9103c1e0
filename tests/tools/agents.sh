#!/usr/bin/env bash
# Installs the coding agents that `make e2e-long` runs into a cache outside the tree (850 MB), and prints its
# path on the last line of standard output: node_modules/.bin is below it. Progress goes to standard error.
# Nothing is done when warm.
#
#   agents.sh          install what the lock file pins
#   agents.sh --lock   resolve package.json again and write the lock file
#
#   TUNDISH_CACHE   where the cache lives (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tundish)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TUNDISH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tundish}

if [ "${1:-}" = --lock ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  cp "$here/agents/package.json" "$scratch/"
  (cd "$scratch" && npm install --package-lock-only --no-audit --no-fund --loglevel=error >&2)
  # Without the addresses of one registry the lock file works with every mirror.
  grep -v '"resolved":' "$scratch/package-lock.json" >"$here/agents/package-lock.json"
  exit
fi

key=$(cat "$here/agents/package-lock.json" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)
out=$cache/agents/$key
mkdir -p "$out"
exec 9>"$cache/agents/lock"
flock 9
if [ ! -e "$out/ready" ]; then
  printf '[agents] installing Claude Code, Codex and Copilot CLI (850 MB)\n' >&2
  cp "$here/agents/package.json" "$here/agents/package-lock.json" "$out/"
  (cd "$out" && npm ci --no-audit --no-fund --loglevel=error >&2)
  touch "$out/ready"
fi
printf '[agents] ready in %s\n' "$out" >&2
printf '%s\n' "$out"
