#!/usr/bin/env bash
# HAProxy, which `npm run bench` measures the proxy against, where the machine has none. It comes from the package haproxy of
# this machine's own release of Debian, with all that it needs but the C library, which is the machine's. apt fetches and
# checks it (own lists, this machine's own mirror; 3 MB); nothing is installed.
#
#   haproxy.sh    fetches what the cache has not; prints the path of the program
#
# exit status: 0 done, 1 failed (the reason is on stderr), 3 not possible on this machine.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
PACKAGE=haproxy
FOLDER=$CACHE/haproxy

say() { printf '%s\n' "$*" >&2; }
die() { printf 'haproxy.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

# shellcheck source=test/support/apt-world.sh
. "$(dirname "${BASH_SOURCE[0]}")/apt-world.sh"

fetch_haproxy() { # INTO LOG
  local uri suite version name
  uri=$(mirror)
  [ -n "$uri" ] || die "this machine's apt sources name no mirror of its own release: set QUORUMBRIDGE_DEBIAN_MIRROR" 3
  suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  apt_world "$suite" "$uri" "$1/apt"
  apt-get update -q -o APT::Update::Error-Mode=any >>"$2" 2>&1 || die "$suite can't be reached (log: $2)"
  version=$(apt-cache madison "$PACKAGE" 2>>"$2" | awk -F'|' '{ gsub(/ /, "", $2); print $2; exit }')
  [ -n "$version" ] || die "Debian $suite has no $PACKAGE" 3
  say "haproxy: downloading $PACKAGE $version from Debian $suite"
  apt-get install -y -q --download-only "$PACKAGE=$version" >>"$2" 2>&1 || die "the download failed (log: $2)"
  mkdir "$1/root"
  for name in "$1"/apt/archives/*.deb; do
    # Without the C library, and what only an installation needs.
    case ${name##*/} in libc6_* | perl* | libperl* | sysvinit* | adduser_* | passwd_*) continue ;; esac
    dpkg-deb --fsys-tarfile "$name" | tar -x -C "$1/root" --no-same-owner --exclude='./usr/share/*' --exclude='./etc/*' ||
      die "unpacking ${name##*/} failed"
  done
  launcher >"$1/haproxy"
  chmod +x "$1/haproxy"
  "$1/haproxy" -v >>"$2" 2>&1 || die "what was unpacked does not start (log: $2)"
  printf '%s %s from Debian %s\n' "$PACKAGE" "$version" "$suite" >"$1/installed"
}

launcher() { # the program with the libraries that were unpacked beside it
  cat <<'LAUNCHER'
#!/bin/sh
root=$(dirname "$0")/root
for folder in "$root"/usr/lib/*-linux-gnu "$root"/lib/*-linux-gnu; do
  LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$root/usr/sbin/haproxy" "$@"
LAUNCHER
}

if [ ! -f "$FOLDER/installed" ]; then
  for tool in apt-get apt-cache dpkg-deb tar flock; do
    command -v "$tool" >/dev/null 2>&1 || die "the command '$tool' is missing" 3
  done
  mkdir -p "$CACHE"
  exec 9>"$CACHE/haproxy.lock"
  flock 9
  if [ ! -f "$FOLDER/installed" ]; then
    work=$(mktemp -d "$CACHE/haproxy.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    log=$CACHE/haproxy.log
    : >"$log"
    fetch_haproxy "$work" "$log"
    rm -rf "$work/apt" "$FOLDER"
    mkdir "$FOLDER"
    mv "$work/root" "$work/haproxy" "$work/installed" "$FOLDER/"
  fi
fi
printf '%s\n' "$FOLDER/haproxy"
