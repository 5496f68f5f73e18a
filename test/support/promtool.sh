#!/usr/bin/env bash
# promtool, which knows what Prometheus makes of our alerts. It comes from Debian's package prometheus, which apt fetches
# and checks (own lists, this machine's own mirror); only the one program is unpacked, into the cache.
#
#   promtool.sh    fetches what the cache has not; prints the path of promtool
#
# exit status: 0 done, 1 failed (the reason is on stderr), 3 not possible on this machine.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
SUITES='bookworm trixie'
WANT='^2\.'
FOLDER=$CACHE/promtool

say() { printf '%s\n' "$*" >&2; }
die() { printf 'promtool.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

# shellcheck source=test/support/brokers-install.sh
. "$(dirname "${BASH_SOURCE[0]}")/brokers-install.sh"

fetch_promtool() { # INTO LOG
  local suite uri version="" seen=""
  uri=$(mirror)
  [ -n "$uri" ] || die "this machine's apt sources name no mirror of its own release: set QUORUMBRIDGE_DEBIAN_MIRROR"
  for suite in $SUITES; do
    apt_world "$suite" "$uri" "$1/apt-$suite"
    apt-get update -q -o APT::Update::Error-Mode=any >>"$2" 2>&1 || { seen="$seen $suite: unreachable;"; continue; }
    version=$(apt-cache madison prometheus 2>>"$2" | awk -F'|' '{ gsub(/ /, "", $2); print $2; exit }')
    [[ "$version" =~ $WANT ]] || { seen="$seen $suite: ${version:-none};"; continue; }
    say "promtool: downloading prometheus $version from Debian $suite"
    (cd "$1" && apt-get download "prometheus=$version") >>"$2" 2>&1 || die "the download failed (log: $2)"
    dpkg-deb --fsys-tarfile "$1"/prometheus_*.deb | tar -x -C "$1" ./usr/bin/promtool
    "$1/usr/bin/promtool" --version >"$1/installed" 2>>"$2" || die "what was unpacked does not start (log: $2)"
    return
  done
  die "no suite has the prometheus that is wanted (seen:$seen log: $2)"
}

if [ ! -f "$FOLDER/installed" ]; then
  for tool in apt-get apt-cache dpkg-deb tar flock; do
    command -v "$tool" >/dev/null 2>&1 || die "the command '$tool' is missing" 3
  done
  mkdir -p "$CACHE"
  exec 9>"$CACHE/promtool.lock"
  flock 9
  if [ ! -f "$FOLDER/installed" ]; then
    work=$(mktemp -d "$CACHE/promtool.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    log=$CACHE/promtool.log
    : >"$log"
    fetch_promtool "$work" "$log"
    rm -rf "$FOLDER"
    mkdir "$FOLDER"
    mv "$work/usr/bin/promtool" "$work/installed" "$FOLDER/"
  fi
fi
printf '%s\n' "$FOLDER/promtool"
