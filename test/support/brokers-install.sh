# shellcheck shell=bash
# Part of brokers.sh: fetches Debian packages into the cache and unpacks them there. Uses CACHE, PACKAGE, SUITES, WANT,
# PROOF, ROOT and STAMP of `known`, and `say`, `die`, `enter`.

# shellcheck source=test/support/apt-world.sh
. "$(dirname "${BASH_SOURCE[0]}")/apt-world.sh"

install_one() { # NAME
  known "$1"
  mkdir -p "$CACHE/$1"
  exec 9>"$CACHE/$1/.lock"
  flock 9
  if [ ! -f "$STAMP" ]; then fetch "$1"; fi
  exec 9>&-
}

fetch() { # NAME, locked
  local name=$1 log=$CACHE/$1/install.log uri suite version="" found="" seen="" began=$SECONDS world
  : >"$log"
  uri=$(mirror)
  [ -n "$uri" ] || die "this machine's apt sources name no mirror of its own release: set QUORUMBRIDGE_DEBIAN_MIRROR"
  say "$name: looking for $PACKAGE in Debian ($SUITES)"
  for suite in $SUITES; do
    world=$CACHE/$name/apt-$suite
    apt_world "$suite" "$uri" "$world"
    if ! apt-get update -q -o APT::Update::Error-Mode=any >>"$log" 2>&1; then seen="$seen $suite: unreachable;"; continue; fi
    version=$(apt-cache madison "$PACKAGE" 2>>"$log" | awk -F'|' '{ gsub(/ /, "", $2); print $2; exit }')
    if [[ "$version" =~ $WANT ]]; then found=$version; break; fi
    seen="$seen $suite: ${version:-none};"
  done
  [ -n "$found" ] || { tail -n 12 "$log" >&2; die "no suite has the $PACKAGE that $name wants (seen:$seen log: $log)"; }
  say "$name: downloading $PACKAGE $found from $suite"
  apt-get install -y -q --download-only "$PACKAGE=$found" dash bash coreutils sed grep mawk libc-bin base-files base-passwd \
    >>"$log" 2>&1 || { tail -n 12 "$log" >&2; die "the download failed (log: $log)"; }
  say "$name: unpacking"
  unpack "$world/archives" "$ROOT.new" >>"$log" 2>&1 || { tail -n 12 "$log" >&2; die "unpacking failed (log: $log)"; }
  enter "$ROOT.new" "" "${PROOF[@]}" >>"$log" 2>&1 ||
    { tail -n 12 "$log" >&2; die "what was unpacked does not start (log: $log)"; }
  rm -rf "$ROOT"
  mv "$ROOT.new" "$ROOT"
  rm -rf "$CACHE/$name"/apt-*
  printf '%s %s from Debian %s\n' "$PACKAGE" "$found" "$suite" >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
  say "$name: ready ($(cat "$STAMP"), $((SECONDS - began)) s)"
}

unpack() { # ARCHIVES ROOT: without documentation, and with what the maintainer scripts would have made
  local new=$2 dir
  rm -rf "$new"
  for dir in bin sbin lib lib64; do mkdir -p "$new/usr/$dir"; ln -s "usr/$dir" "$new/$dir"; done
  find "$1" -maxdepth 1 -name '*.deb' -print0 | sort -z | xargs -0 -n 1 -P 2 sh -c '
    dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink --no-same-owner -C "$0" \
      --exclude="./usr/share/doc/*" --exclude="./usr/share/man/*" --exclude="./usr/share/locale/*" \
      --exclude="./lib/systemd/*" --exclude="./usr/lib/systemd/*"' "$new" || return 1
  cp "$new/usr/share/base-passwd/passwd.master" "$new/etc/passwd"
  cp "$new/usr/share/base-passwd/group.master" "$new/etc/group"
  [ -e "$new/usr/bin/sh" ] || ln -s dash "$new/usr/bin/sh"
  [ -e "$new/usr/bin/awk" ] || ln -s mawk "$new/usr/bin/awk"
  printf '127.0.0.1 localhost\n' >"$new/etc/hosts"
  printf 'hosts: files\n' >"$new/etc/nsswitch.conf"
  mkdir -p "$new"/{dev,proc,tmp,srv,files}
  chmod 1777 "$new/tmp"
}
