#!/usr/bin/env bash
# A real Kubernetes control plane and the real RabbitMQ cluster operator for the tests. See `kube-install.sh --help`.
#
# Both are built from Go modules, at the versions and with the hashes of kube/go.mod, kube/go.sum and those in
# kube/operator; so are what installations use besides: cert-manager, and the CRDs of the Prometheus operator. Only `go`
# is needed, and the module proxy that it is set up for. Where that can't be had, an older control plane is built from
# Debian's source package (kube-debian.sh), and there is nothing of the others.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAMES="control-plane operator cert-manager monitoring"
REACH_TIMEOUT=30 # seconds that a module proxy has for its first answer

usage() {
  cat <<'HELP'
kube-install.sh - a Kubernetes control plane and the RabbitMQ cluster operator, to run on loopback

usage:
  kube-install.sh install NAME...  build what the cache has not; prints a line `NAME VERSION FOLDER` for each
  kube-install.sh check NAME       exit 0: there; 1: can be built; 3: not possible here (says why)
  kube-install.sh status           what is in the cache

NAME: control-plane (etcd, kube-apiserver, kube-controller-manager, kubectl),
      operator (cluster-operator, and operator.yaml: its namespace, CRD, roles and Deployment),
      cert-manager (controller, cainjector, and crds.yaml), or
      monitoring (crds.yaml of the Prometheus operator)

The control plane is the first of these that is possible:
  assets    the programs in $KUBEBUILDER_ASSETS
  modules   the version of kube/go.mod, built from Go modules by `go`
  debian    v1.20.2, built from the source package of Debian 12 with its Go, by apt-get (root is not needed)
The others are built from Go modules, and need a control plane that isn't Debian's.

A cold build takes minutes of all cores and some gigabytes of disk, most of which are freed at the end.
When it is interrupted, the next one goes on from there.

environment:
  KUBEBUILDER_ASSETS           a folder with etcd, kube-apiserver and kubectl, as envtest has it, to use for the control
                               plane (kube-controller-manager too, where it is there)
  QUORUMBRIDGE_KUBERNETES      modules or debian: that way and no other
  QUORUMBRIDGE_DEBIAN_MIRROR   another mirror than the one of this machine's apt (needed on Ubuntu)
  QUORUMBRIDGE_CACHE           where all is kept (default ~/.cache/quorumbridge)

exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 3 not possible on this machine.
HELP
}

# shellcheck source=test/support/kube-debian.sh
. "$HERE/kube-debian.sh"

say() { printf '%s\n' "$*" >&2; }
die() { printf 'kube-install.sh: %s\n' "$*" >&2; exit 1; }
bad() { printf "kube-install.sh: %s (see 'kube-install.sh --help')\n" "$*" >&2; exit 2; }

known() { # NAME: its module, what it is pinned to, and where it is kept
  CRDS='' # of the Prometheus operator
  case "$1" in
    control-plane) MODULE=$HERE/kube MAIN=k8s.io/kubernetes ;;
    operator) MODULE=$HERE/kube/operator MAIN=github.com/rabbitmq/cluster-operator/v2 ;;
    cert-manager) MODULE=$HERE/kube/cert-manager MAIN=github.com/cert-manager/cert-manager ;;
    monitoring)
      MODULE=$HERE/kube/monitoring MAIN=github.com/prometheus-operator/prometheus-operator
      CRDS='podmonitors prometheusrules servicemonitors'
      ;;
    *) bad "unknown name '$1', want one of: $NAMES" ;;
  esac
  VERSION=$(awk -v main="$MAIN" '{ sub(/^require /, "") } $1 == main && $2 ~ /^v/ { print $2; exit }' "$MODULE/go.mod")
  [ -n "$VERSION" ] || die "$MODULE/go.mod requires no $MAIN"
  FOLDER=$CACHE/$1-$VERSION
  STAMP=$FOLDER/installed
  # Another pin, or what is taken of it, may change without the version.
  PINNED=$({ grep -v '^//' "$MODULE/go.mod"; printf %s "$CRDS"; } | cksum)
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

modules_impossible() { # why MAIN cannot be built here from Go modules; empty when it can
  local tool want have said
  for tool in go flock; do
    command -v "$tool" >/dev/null 2>&1 || { echo "the command '$tool' is missing"; return; }
  done
  want=$(awk '$1 == "go" { print $2 }' "$MODULE/go.mod")
  have=$(go version | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
  # A Go that may fetch the one that a module wants does so now.
  if ! at_least "$have" "$want" &&
    ! { at_least "$have" 1.21 && (cd "$MODULE" && GOWORK=off go env GOVERSION) >/dev/null 2>&1; }; then
    echo "Go is ${have:-of an unknown version}, and $want or later is needed"
    return
  fi
  # A proxy that swallows requests is waited for once in a while, and not by each of many tests.
  if [ -z "${QUORUMBRIDGE_KUBERNETES:-}" ] && [ -n "$(find "$CACHE/unreachable" -mmin -30 2>/dev/null)" ]; then
    cat "$CACHE/unreachable"
    return
  fi
  rm -f "$CACHE/unreachable"
  # Outside of the module, for which all that it requires would be fetched.
  said=$(cd / && GOWORK=off GOFLAGS='' GOMODCACHE=$CACHE/kube-build/modules \
    timeout "$REACH_TIMEOUT" go list -m "$MAIN@$VERSION" 2>&1) && return
  mkdir -p "$CACHE"
  printf '%s' "Go modules cannot be reached (${said:-no answer within $REACH_TIMEOUT s})" | tr '\n' ' ' | tee "$CACHE/unreachable"
}
status_line() { printf '%-14s %s %s\n' "$1" "$VERSION" "$(if installed; then echo "in $FOLDER"; else echo 'not in the cache'; fi)"; }
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# NAME: the way by which it is had here. Sets WAY, VERSION, FOLDER, STAMP and PINNED; ends with the reasons where there is
# none.
choose() {
  local only=${QUORUMBRIDGE_KUBERNETES:-} why reason
  known "$1"
  case "$only" in '' | modules | debian) ;; *) bad "QUORUMBRIDGE_KUBERNETES is '$only', want modules or debian" ;; esac
  if [ -z "$only" ] && assets "$1"; then WAY=assets; return; fi
  WAY=modules
  if [ "$only" = debian ]; then why="QUORUMBRIDGE_KUBERNETES is debian"; else
    if installed; then return; fi
    why=$(modules_impossible)
    [ -n "$why" ] || return 0
  fi
  why="not from Go modules: $why"
  if [ "$1" = control-plane ]; then
    if [ "$only" = modules ]; then why="$why; not from Debian: QUORUMBRIDGE_KUBERNETES is modules"; else
      debian_known
      WAY=debian
      if installed; then return; fi
      reason=$(debian_impossible)
      if [ -z "$reason" ]; then
        say "control-plane: v$DEBIAN_KUBERNETES will do, $why"
        return
      fi
      why="$why; not from Debian: $reason"
    fi
    [ -n "$only" ] || why="$why; and KUBEBUILDER_ASSETS is not set"
  fi
  say "kube-install.sh: $1 cannot be had here, $why"
  exit 3
}

job() { # COMMAND...: what it says goes to the log
  "$@" >>"$LOG" 2>&1 &
  JOB=$!
  wait "$JOB" || return 1
  JOB=""
}
JOB="" # nobody wants it when this script is ended
trap '[ -z "$JOB" ] || kill "$JOB" 2>/dev/null' EXIT
trap 'exit 1' TERM INT HUP
module_go() { # ARGUMENTS of go build, at the pins of MODULE; nothing for debuggers, which takes a tenth of the time
  cd "$MODULE" && CGO_ENABLED=0 GOWORK=off GOCACHE=$WORK/cache GOMODCACHE=$WORK/modules \
    exec nice -n 15 go build -mod=readonly -modcacherw -trimpath -gcflags=all=-dwarf=false "$@"
}
module_download() { # MAIN itself, held against go.sum, and nothing that it requires
  cd "$MODULE" && GOWORK=off GOMODCACHE=$WORK/modules GOFLAGS=-modcacherw exec go mod download "$MAIN@$VERSION"
}
module_folder() { # MODULE_PATH: where its files are, once fetched
  (cd "$MODULE" && GOWORK=off GOMODCACHE=$WORK/modules GOFLAGS=-modcacherw go list -mod=readonly -m -f '{{.Dir}}' "$1")
}

build_control_plane() { # INTO: one `go build`, so that what the programs share is compiled once
  local into=$1 flags='-s -w' package minor=${VERSION#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$VERSION -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
  done
  job module_go -ldflags "$flags" -o "$into/" go.etcd.io/etcd/server/v3 \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kubectl} || return 1
  mv "$into/server" "$into/etcd"
  { "$into/etcd" --version && "$into/kube-apiserver" --version && "$into/kube-controller-manager" --version; } >>"$LOG" 2>&1 ||
    return 1
  [ "$("$into/kube-apiserver" --version)" = "Kubernetes $VERSION" ]
}

build_operator() { # INTO; the manifests are put together as its own release does it
  local into=$1 kubectl
  job module_go -ldflags '-s -w' -o "$into/cluster-operator" "$MAIN" || return 1
  kubectl=$(choose control-plane; echo "$FOLDER/kubectl")
  "$kubectl" kustomize "$(module_folder "$MAIN")/config/installation" >"$into/operator.yaml" 2>>"$LOG"
}

build_cert_manager() { # INTO; the labels of its CRDs are for Helm to fill in
  job module_go -ldflags '-s -w' -o "$1/" "$MAIN/cmd/controller" "$MAIN/cmd/cainjector" || return 1
  awk 'FNR == 1 { print "---" } !/\{\{/' "$(module_folder "$MAIN")"/deploy/crds/crd-*.yaml >"$1/crds.yaml"
}

build_monitoring() { # INTO
  local folder name
  job module_download || return 1
  folder=$(module_folder "$MAIN")/example/prometheus-operator-crd
  for name in $CRDS; do cat "$folder/monitoring.coreos.com_$name.yaml"; done >"$1/crds.yaml"
}

install_one() { # NAME
  local builder from began=$SECONDS
  # The operator's manifests are put together by kubectl.
  if [ "$1" = operator ]; then (choose operator; install_one control-plane) >/dev/null; fi
  choose "$1"
  if [ "$WAY" != assets ] && ! installed; then
    mkdir -p "$CACHE"
    exec 9>"$CACHE/kube-build.lock"
    flock -n 9 || { say "$1: another build is under way; waiting for it"; flock 9; }
    if ! installed; then
      WORK=$CACHE/kube-build LOG=$CACHE/kube-build-$1.log builder=build_${1/-/_} from='Go modules'
      if [ "$WAY" = debian ]; then WORK=$CACHE/kube-build-debian builder=build_debian from="Debian's source package"; fi
      mkdir -p "$WORK"
      : >"$LOG"
      say "$1: building $MAIN $VERSION from $from; this takes minutes (log: $LOG)"
      rm -rf "$FOLDER.new"
      mkdir "$FOLDER.new"
      "$builder" "$FOLDER.new" || { tail -n 5 "$LOG" >&2; die "building $MAIN $VERSION from $from failed (log: $LOG)"; }
      printf '%s\n' "$PINNED" >"$FOLDER.new/installed"
      rm -rf "$FOLDER"
      mv "$FOLDER.new" "$FOLDER"
      [ "$WAY" != debian ] || rm -rf "$WORK"
      say "$1: ready ($((SECONDS - began)) s, $(du -sm "$FOLDER" | cut -f1) MB)"
    fi
    exec 9>&-
  fi
  printf '%s %s %s\n' "$1" "$VERSION" "$FOLDER"
}

tidy_up() { # modules and objects are of use only until everything is built
  local name
  [ -d "$CACHE/kube-build" ] || return 0
  for name in $NAMES; do known "$name"; [ -z "${QUORUMBRIDGE_KUBERNETES:-}" ] && assets "$name" || installed || return 0; done
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
    choose "${2:-}"
    [ "$WAY" = assets ] || installed || exit 1
    ;;
  status)
    for name in $NAMES; do
      known "$name"
      status_line "$name"
    done
    debian_known
    status_line control-plane
    ;;
  '') usage >&2; exit 2 ;;
  *) bad "unknown command '$1'" ;;
esac
