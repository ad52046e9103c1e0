#!/usr/bin/env bash
# Checks the dependencies by deny.toml: bans, licences, sources, and advisories where their database can be had.
# cargo-deny is built once into the cache beside the tools (four minutes on two cores).
#
#   TUNDISH_CACHE        where the cache lives (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tundish)
#   TUNDISH_ADVISORIES   "required": a database that cannot be had is an error
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.20.2
root=${TUNDISH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tundish}/cargo-deny-$version
deny=$root/bin/cargo-deny
say() { printf '[deny] %s\n' "$*" >&2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ ! -x $deny ]]; then
  say "building cargo-deny $version into $root"
  # Its own target folder, so that it neither uses nor changes what the workspace has built.
  (cd / && cargo install cargo-deny --quiet --locked --version "$version" --root "$root" --target-dir "$scratch/target")
fi

"$deny" --log-level error check bans licenses sources

if timeout 60 "$deny" fetch db 2>"$scratch/said"; then
  "$deny" check --disable-fetch advisories
  exit
fi
say "ADVISORIES WERE NOT CHECKED, since their database cannot be had:"
sed 's/^/[deny]   /' "$scratch/said" >&2
[[ ${TUNDISH_ADVISORIES:-} != required ]]
