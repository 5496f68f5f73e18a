#!/usr/bin/env bash
# A real Kubernetes control plane and the real RabbitMQ cluster operator for the tests. See `kube-install.sh --help`.
#
# Nothing is fetched ready-made: both are built from Go modules, at the versions and with the hashes of kube/go.mod,
# kube/go.sum and those in kube/operator. Only `go` is needed, and the module proxy that it is set up for.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAMES="control-plane operator"

usage() {
  cat <<'HELP'
kube-install.sh - a Kubernetes control plane and the RabbitMQ cluster operator, to run on loopback

usage:
  kube-install.sh install NAME...  build what the cache has not; prints a line `NAME VERSION FOLDER` for each
  kube-install.sh check NAME       exit 0: there; 1: can be built; 3: not possible here (says why)
  kube-install.sh status           what is in the cache

NAME: control-plane (etcd, kube-apiserver, kube-controller-manager, kubectl), or
      operator (cluster-operator, and operator.yaml: its namespace, CRD, roles and Deployment)

A cold build of both takes minutes of all cores and some gigabytes of disk, most of which are freed at the end.
When it is interrupted, the next one goes on from there.

environment:
  KUBEBUILDER_ASSETS           a folder with etcd, kube-apiserver and kubectl, as envtest has it, to use for the control
                               plane (kube-controller-manager too, where it is there)
  QUORUMBRIDGE_CACHE           where all is kept (default ~/.cache/quorumbridge)

exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 3 not possible on this machine.
HELP
}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'kube-install.sh: %s\n' "$*" >&2; exit 1; }
bad() { printf "kube-install.sh: %s (see 'kube-install.sh --help')\n" "$*" >&2; exit 2; }

known() { # NAME: its module, what it is pinned to, and where it is kept
  case "$1" in
    control-plane) MODULE=$HERE/kube MAIN=k8s.io/kubernetes ;;
    operator) MODULE=$HERE/kube/operator MAIN=github.com/rabbitmq/cluster-operator/v2 ;;
    *) bad "unknown name '$1', want one of: $NAMES" ;;
  esac
  VERSION=$(awk -v main="$MAIN" '{ sub(/^require /, "") } $1 == main && $2 ~ /^v/ { print $2; exit }' "$MODULE/go.mod")
  [ -n "$VERSION" ] || die "$MODULE/go.mod requires no $MAIN"
  FOLDER=$CACHE/$1-$VERSION
  STAMP=$FOLDER/installed
  PINNED=$(grep -v '^//' "$MODULE/go.mod" | cksum) # another pin may change without the version
}
installed() { [ "$(cat "$STAMP" 2>/dev/null)" = "$PINNED" ]; }

assets() { # whether the control plane is the user's own; VERSION and FOLDER are then theirs
  local tool
  [ "$1" = control-plane ] && [ -n "${KUBEBUILDER_ASSETS:-}" ] || return 1
  FOLDER=$KUBEBUILDER_ASSETS
  for tool in etcd kube-apiserver kubectl; do
    [ -x "$FOLDER/$tool" ] || die "KUBEBUILDER_ASSETS is '$FOLDER', and there is no $tool"
  done
  VERSION=$("$FOLDER/kube-apiserver" --version | awk '{ print $2 }')
}

impossible() { # why the module cannot be built here; empty when it can
  local tool want have
  for tool in go flock; do
    command -v "$tool" >/dev/null 2>&1 || { echo "the command '$tool' is missing"; return; }
  done
  want=$(awk '$1 == "go" { print $2 }' "$MODULE/go.mod")
  have=$(go version | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
  if at_least "$have" "$want"; then return; fi
  # A Go that may fetch the one that a module wants does so now.
  if at_least "$have" 1.21 && (cd "$MODULE" && GOWORK=off go env GOVERSION) >/dev/null 2>&1; then return; fi
  echo "Go is ${have:-of an unknown version}, and $want or later is needed"
}
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
no_way() { # NAME WHY
  say "kube-install.sh: $1 cannot be had here: $2 (it is built with Go$([ "$1" != control-plane ] || echo "; or set KUBEBUILDER_ASSETS"))"
  exit 3
}

build_go() { # ARGUMENTS of go build, at the pins of MODULE; nothing for debuggers, which takes a tenth of the time
  (cd "$MODULE" && CGO_ENABLED=0 GOWORK=off GOCACHE=$WORK/cache GOMODCACHE=$WORK/modules \
    exec nice -n 15 go build -mod=readonly -modcacherw -trimpath -gcflags=all=-dwarf=false "$@") >>"$LOG" 2>&1 &
  JOB=$!
  wait "$JOB" || return 1
  JOB=""
}
JOB="" # nobody wants it when this script is ended
trap '[ -z "$JOB" ] || kill "$JOB" 2>/dev/null' EXIT
trap 'exit 1' TERM INT HUP
module_folder() { # MODULE_PATH: where its files are, once fetched
  (cd "$MODULE" && GOWORK=off GOMODCACHE=$WORK/modules GOFLAGS=-modcacherw go list -mod=readonly -m -f '{{.Dir}}' "$1")
}

build_control_plane() { # INTO: one `go build`, so that what the programs share is compiled once
  local into=$1 flags='-s -w' package minor=${VERSION#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$VERSION -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
  done
  build_go -ldflags "$flags" -o "$into/" go.etcd.io/etcd/server/v3 \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kubectl} || return 1
  mv "$into/server" "$into/etcd"
  { "$into/etcd" --version && "$into/kube-apiserver" --version && "$into/kube-controller-manager" --version; } >>"$LOG" 2>&1 ||
    return 1
  [ "$("$into/kube-apiserver" --version)" = "Kubernetes $VERSION" ]
}

build_operator() { # INTO; the manifests are put together as its own release does it
  local into=$1 kubectl
  build_go -ldflags '-s -w' -o "$into/cluster-operator" "$MAIN" || return 1
  kubectl=$(known control-plane; assets control-plane || true; echo "$FOLDER/kubectl")
  "$kubectl" kustomize "$(module_folder "$MAIN")/config/installation" >"$into/operator.yaml" 2>>"$LOG"
}

install_one() { # NAME
  local why began=$SECONDS
  # The operator's manifests are put together by kubectl.
  if [ "$1" = operator ]; then (install_one control-plane) >/dev/null; fi
  known "$1"
  if assets "$1"; then printf '%s %s %s\n' "$1" "$VERSION" "$FOLDER"; return; fi
  if ! installed; then
    why=$(impossible)
    [ -z "$why" ] || no_way "$1" "$why"
    mkdir -p "$CACHE"
    exec 9>"$CACHE/kube-build.lock"
    flock -n 9 || { say "$1: another build is under way; waiting for it"; flock 9; }
    if ! installed; then
      WORK=$CACHE/kube-build LOG=$CACHE/kube-build-$1.log
      mkdir -p "$WORK"
      : >"$LOG"
      say "$1: building $MAIN $VERSION from Go modules; this takes minutes (log: $LOG)"
      rm -rf "$FOLDER.new"
      mkdir "$FOLDER.new"
      "build_${1/-/_}" "$FOLDER.new" || { tail -n 5 "$LOG" >&2; die "building $MAIN $VERSION failed (log: $LOG)"; }
      printf '%s\n' "$PINNED" >"$FOLDER.new/installed"
      rm -rf "$FOLDER"
      mv "$FOLDER.new" "$FOLDER"
      say "$1: ready ($((SECONDS - began)) s, $(du -sm "$FOLDER" | cut -f1) MB)"
    fi
    exec 9>&-
  fi
  printf '%s %s %s\n' "$1" "$VERSION" "$FOLDER"
}

tidy_up() { # modules and objects are of use only until everything is built
  local name
  [ -d "$CACHE/kube-build" ] || return 0
  for name in $NAMES; do known "$name"; assets "$name" || installed || return 0; done
  exec 9>"$CACHE/kube-build.lock"
  if flock -n 9; then rm -rf "$CACHE/kube-build"; fi
  exec 9>&-
}

case "${1:-}" in
  -h | --help | help) usage ;;
  install)
    shift
    [ $# -ge 1 ] || bad "install what?"
    for name; do known "$name"; done
    for name; do install_one "$name"; done
    tidy_up
    ;;
  check)
    known "${2:-}"
    assets "$2" || installed || { why=$(impossible); [ -z "$why" ] || no_way "$2" "$why"; exit 1; }
    ;;
  status)
    for name in $NAMES; do
      known "$name"
      printf '%-14s %s %s\n' "$name" "$VERSION" "$(if installed; then echo "in $FOLDER"; else echo 'not in the cache'; fi)"
    done
    ;;
  '') usage >&2; exit 2 ;;
  *) bad "unknown command '$1'" ;;
esac
