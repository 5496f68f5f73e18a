#!/usr/bin/env bash
# Runs a program in a world of its own, in which test pods can live: namespaces for network, processes, mounts and host
# name, a bridge for the pods, and no way out of it. Whatever was started in there ends with the program, and the
# world's folder is deleted.
#   enter.sh COMMAND [ARGUMENT...]
# What the world needs from outside is fetched first. The program finds the world's folder, which is also its TMPDIR, in
# QUORUMBRIDGE_WORLD. Where there can be no such world it runs all the same, outside, and finds the reason in
# QUORUMBRIDGE_WORLD_WHY.
# The starter holds the other end of this script's stdin: when that closes, however the starter ended, the world ends.
#
# environment:
#   QUORUMBRIDGE_WORLD_NEEDS   names that brokers.sh and kube-install.sh know
#   QUORUMBRIDGE_WORLD_PROGRAM a program to put before COMMAND: for those who can only choose one executable
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin # not every user looks there
NAMESPACES=(--net --pid --mount --uts --ipc --fork --kill-child --mount-proc)
if [ "$(id -u)" != 0 ]; then NAMESPACES+=(--user --map-root-user); fi

# ------------------------------------------------------------------------- inside ---

if [ "${1:-}" = --inside ]; then # as process 1, which orphans come to
  shift
  unset QUORUMBRIDGE_WORLD_NEEDS QUORUMBRIDGE_WORLD_PROGRAM
  ip link set lo up
  ip link add pods type bridge
  ip address add 10.244.0.1/16 dev pods
  ip link set pods up
  "$@" <&0 &
  program=$!
  trap 'kill -TERM "$program" 2>/dev/null' TERM
  trap 'kill -INT "$program" 2>/dev/null' INT
  status=129
  while [ "$status" -gt 128 ] && kill -0 "$program" 2>/dev/null; do # a signal interrupts wait
    wait "$program"
    status=$?
  done
  exit "$status"
fi

# ------------------------------------------------------------------------ outside ---

fetch() { # why something that is needed cannot be had; empty when all is there
  local name script
  for name in ${QUORUMBRIDGE_WORLD_NEEDS:-}; do
    case "$name" in control-plane | operator) script=kube-install.sh ;; *) script=brokers.sh ;; esac
    "$HERE/../$script" install "$name" >/dev/null 2> >(tee "$folder/told" >&2) </dev/null ||
      { tail -n 3 "$folder/told" | tr -s '[:space:]' ' '; return; }
  done
}
impossible() {
  local tool
  [ "$(uname)" = Linux ] || { echo "network namespaces are Linux's"; return; }
  [ "${QUORUMBRIDGE_BROKERS:-packages}" = packages ] || { echo "pods run RabbitMQ from packages alone"; return; }
  for tool in ip unshare nsenter mount chroot flock setpriv; do
    command -v "$tool" >/dev/null 2>&1 || { echo "the command '$tool' is missing"; return; }
  done
  unshare "${NAMESPACES[@]}" sh -c 'ip link add one type bridge && ip link add two type veth peer name three' \
    >/dev/null 2>"$folder/told" </dev/null || echo "namespaces with a bridge are not permitted: $(tail -n 1 "$folder/told")"
}

if [ -n "${QUORUMBRIDGE_WORLD_PROGRAM:-}" ]; then set -- "$QUORUMBRIDGE_WORLD_PROGRAM" "$@"; fi
parent=${TMPDIR:-/tmp}
for left in "$parent"/quorumbridge-world-*/; do # of runs that were killed together with this script
  [ -f "$left/lock" ] && flock -n "$left/lock" true && rm -rf "$left" 2>/dev/null
done
folder=$(mktemp -d "$parent/quorumbridge-world-XXXXXX")
chmod 755 "$folder" # containers have other users
exec {lock}>"$folder/lock"
flock -n "$lock" # process 1 keeps it too: nobody takes the folder away from a world that still ends

why=$(impossible)
[ -n "$why" ] || why=$(fetch)
if [ -n "$why" ]; then
  rm -rf "$folder"
  exec {lock}>&-
  export QUORUMBRIDGE_WORLD_WHY=$why
  exec "$@"
fi

world="" ending=""
trap 'ending=TERM' TERM HUP
trap 'ending=INT' INT
exec {input}<&0
QUORUMBRIDGE_WORLD=$folder TMPDIR=$folder setpriv --pdeathsig KILL unshare "${NAMESPACES[@]}" \
  bash "$HERE/enter.sh" --inside "$@" </dev/null {input}<&- &
world=$!
cat <&"$input" >/dev/null {lock}>&- &
reader=$!
# A signal comes here and not to process 1, which unshare hides.
inside() { cat "/proc/$world/task/$world/children" 2>/dev/null; }
while wait -n; [ -n "$ending" ] && kill -0 "$world" 2>/dev/null; do
  # shellcheck disable=SC2046 -- one number, or none
  kill -"$ending" $(inside) 2>/dev/null
  ending=""
done
disown "$reader" 2>/dev/null # of its end nobody wants to be told
kill -KILL "$world" "$reader" 2>/dev/null
wait "$world" 2>/dev/null
status=$?
for _ in 1 2 3 4 5; do rm -rf "$folder" 2>/dev/null && break; sleep 0.2; done
exit "$status"
