#!/usr/bin/env bash
# Becomes a container's first process: private mounts, a root file system of its own, then the command in it.
#   container.sh FOLDER IMAGE UID GID GROUPS READONLY WORKDIR
# To be run as process 1 of a new process namespace, with private mounts, in the network of the pod. FOLDER has, each
# with a NUL behind every word: `mounts` (triples: source, absolute target, ro or rw), `env`, `command`; IMAGE is a folder
# as images.ts makes it, where an absolute symbolic link stands for a folder that all containers share, read-only.
set -euo pipefail
folder=$1 image=$2 uid=$3 gid=$4 groups=$5 readonly=$6 workdir=$7
root=$folder/root

read_only() { # what the mount below it forbids already has to be forbidden again in a user namespace
  mount -o remount,bind,ro "$1" 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev "$1"
}
place() { # SOURCE TARGET: something to mount it on
  if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; [ -e "$2" ] || : >"$2"; fi
}

mkdir -p "$root"
mount -t tmpfs -o mode=755 tmpfs "$root"
for entry in "$image"/*; do
  to=$root/${entry##*/}
  shared=$(readlink "$entry" || true)
  case "$shared" in
    /*) mkdir "$to"; mount --bind "$shared" "$to"; read_only "$to" ;;
    *) cp -a "$entry" "$to" ;;
  esac
done
mkdir -p "$root"/{dev,proc,tmp,run,var}
ln -sf hosts.d/hosts "$root/etc/hosts"
[ -e "$root/var/run" ] || ln -s /run "$root/var/run"
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done

mapfile -d '' -t mounts <"$folder/mounts"
for ((at = 0; at < ${#mounts[@]}; at += 3)); do
  target=$root${mounts[at + 1]}
  place "${mounts[at]}" "$target"
  mount --bind "${mounts[at]}" "$target"
  if [ "${mounts[at + 2]}" = ro ]; then read_only "$target"; fi
done
if [ "$readonly" = yes ]; then read_only "$root"; fi

mapfile -d '' -t environment <"$folder/env"
mapfile -d '' -t command <"$folder/command"
cd /
# By their paths, since PATH is now the container's. A user namespace of one user has no other to become.
unshare=$(command -v unshare)
become=("$(command -v setpriv)" --regid="$gid" --groups="$groups" "$unshare" --setuid="$uid")
if [ "$(awk '{ count += $3 } END { print count }' /proc/self/uid_map)" = 1 ]; then become=("$unshare"); fi
exec env -i "${environment[@]}" "${become[@]}" --root="$root" --wd="$workdir" -- "${command[@]}"
