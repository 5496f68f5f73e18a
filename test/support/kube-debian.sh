# shellcheck shell=bash
# Part of kube-install.sh: the Kubernetes of Debian 12, for machines that have no Go of their own or no Go modules. There
# is no package with its API server, but the source package is the whole of upstream's v1.20.2 with all it needs, and
# Debian's Go builds it. etcd and kubectl are taken from packages. All is unpacked below WORK; nothing is installed, and
# root is not needed. Uses CACHE, WORK, LOG, VERSION, and `job`.

# shellcheck source=test/support/apt-world.sh
. "$(dirname "${BASH_SOURCE[0]}")/apt-world.sh"

DEBIAN_SUITE=bookworm
DEBIAN_KUBERNETES=1.20.2
# What apt's version of a package has to match; revisions of Debian's may come.
DEBIAN_PINS='kubernetes ^1\.20\.5\+really1\.20\.2-
kubernetes-client ^1\.20\.5\+really1\.20\.2-
etcd-server ^3\.4\.23-
golang-1.19-go ^1\.19\.8-
golang-1.19-src ^1\.19\.8-
golang-github-modern-go-reflect2-dev ^1\.0\.2-'
DEBIAN_SOURCE_SHA256=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc

debian_known() {
  VERSION=v$DEBIAN_KUBERNETES
  FOLDER=$CACHE/control-plane-$VERSION
  STAMP=$FOLDER/installed
  PINNED=$(printf '%s\n%s\n' "$DEBIAN_PINS" "$DEBIAN_SOURCE_SHA256" | cksum)
}

debian_impossible() { # why Debian's source cannot be built here; empty when it can
  local tool uri probe
  for tool in apt-get apt-cache dpkg-deb tar gzip sha256sum flock; do
    command -v "$tool" >/dev/null 2>&1 || { echo "the command '$tool' is missing"; return; }
  done
  uri=$(mirror)
  [ -n "$uri" ] || { echo "apt's sources name no mirror of this machine's release (set QUORUMBRIDGE_DEBIAN_MIRROR)"; return; }
  probe=$(mktemp -d)
  /usr/lib/apt/apt-helper -o Acquire::http::Timeout=20 -o Acquire::Retries=1 -o APT::Sandbox::User=root \
    download-file "$uri/dists/$DEBIAN_SUITE/InRelease" "$probe/InRelease" >/dev/null 2>&1 ||
    echo "the mirror $uri has no $DEBIAN_SUITE, or cannot be reached"
  rm -rf "$probe"
}

debian_fetch() { # the packages into WORK/deb, unpacked in WORK/tree; the source into WORK/gopath
  local world=$WORK/apt name pattern found names=()
  apt_world "$DEBIAN_SUITE" "$(mirror)" "$world"
  sed -n 's/^deb /deb-src /p' "$world/sources.list" >"$world/src" && cat "$world/src" >>"$world/sources.list"
  job apt-get update -q -o APT::Update::Error-Mode=any || return 1
  while read -r name pattern; do
    found=$(apt-cache madison "$name" 2>>"$LOG" | awk -F'|' -v name="$name" '{ gsub(/ /, "") } $1 == name { print $2; exit }')
    [[ "$found" =~ $pattern ]] || { echo "$DEBIAN_SUITE has $name ${found:-not at all}, and $pattern is pinned" >>"$LOG"; return 1; }
    [ "$name" = kubernetes ] || names+=("$name=$found")
  done <<<"$DEBIAN_PINS"
  rm -rf "$WORK/deb" "$WORK/tree" "$WORK/gopath"
  mkdir -p "$WORK/deb" "$WORK/tree" "$WORK/gopath/src/k8s.io/kubernetes"
  job env -C "$WORK/deb" apt-get -q download "${names[@]}" || return 1
  job env -C "$WORK/deb" apt-get -q source --download-only --tar-only kubernetes || return 1
  name=$(echo "$WORK"/deb/*.orig.tar.gz)
  [ "$(sha256sum <"$name" | cut -d ' ' -f 1)" = "$DEBIAN_SOURCE_SHA256" ] || { echo "$name is not the pinned one" >>"$LOG"; return 1; }
  job tar -xzf "$name" -C "$WORK/gopath/src/k8s.io/kubernetes" --strip-components=1 --no-same-owner || return 1
  for name in "$WORK"/deb/*.deb; do job dpkg-deb -x "$name" "$WORK/tree" || return 1; done
}

debian_arrange() { # a Go below WORK/go, and the source without what Debian's Go can't run
  local lib=$WORK/tree/usr/lib/go-1.19 share=$WORK/tree/usr/share/go-1.19
  local reflect2=$WORK/gopath/src/k8s.io/kubernetes/vendor/github.com/modern-go/reflect2
  rm -rf "$WORK/go"
  mkdir "$WORK/go" "$WORK/go/pkg" || return 1
  # Debian's own links are to absolute paths.
  ln -s "$share/src" "$WORK/go/src" && ln -s "$lib/bin" "$WORK/go/bin" && ln -s "$lib/VERSION" "$WORK/go/VERSION" || return 1
  ln -s "$share/pkg/include" "$WORK/go/pkg/include" && ln -s "$lib"/pkg/*_* "$lib/pkg/tool" "$WORK/go/pkg/" || return 1
  # The reflect2 of that time takes Go's maps for what they were before 1.18: the API server crashes in it.
  rm -rf "$reflect2"
  cp -R "$WORK/tree/usr/share/gocode/src/github.com/modern-go/reflect2" "$reflect2" && rm -f "$reflect2/go.mod"
}

debian_go() { # ARGUMENTS of go, in the source
  cd "$WORK/gopath/src/k8s.io/kubernetes" &&
    exec env GOROOT="$WORK/go" GOPATH="$WORK/gopath" GOCACHE="$WORK/cache" GO111MODULE=off GOFLAGS= GOPROXY=off GOENV=off \
      CGO_ENABLED=0 PATH="$WORK/go/bin:$PATH" nice -n 15 "$@"
}

debian_openapi() { # pkg/generated/openapi, which only upstream's build makes
  local folders
  job debian_go go build -o "$WORK/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen || return 1
  folders=$(cd "$WORK/gopath/src/k8s.io/kubernetes" &&
    grep -rl --include='*.go' '+k8s:openapi-gen=' pkg vendor/k8s.io staging/src/k8s.io |
    grep -vE 'code-generator|sample-apiserver|_test\.go|kube-openapi/|gengo/' |
      sed 's#^staging/src/#vendor/#' | xargs -n 1 dirname | sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd , -)
  job debian_go "$WORK/openapi-gen" -h hack/boilerplate/boilerplate.generatego.txt -i "$folders" \
    -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi -r /dev/null
}

build_debian() { # INTO
  local into=$1 flags='-s -w' package name minor=${DEBIAN_KUBERNETES#1.}
  if [ ! -f "$WORK/fetched" ]; then
    debian_fetch && debian_arrange && touch "$WORK/fetched" || return 1
  fi
  debian_openapi || return 1
  for package in client-go/pkg/version component-base/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags="$flags -X $package.gitVersion=$VERSION -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
  done
  job debian_go go build -gcflags=all=-dwarf=false -ldflags "$flags" -o "$into/" \
    ./cmd/kube-apiserver ./cmd/kube-controller-manager || return 1
  for name in etcd kubectl; do cp "$WORK/tree/usr/bin/$name" "$into/" || return 1; done
  { "$into/etcd" --version && "$into/kubectl" version --client && "$into/kube-controller-manager" --version; } >>"$LOG" 2>&1 ||
    return 1
  [ "$("$into/kube-apiserver" --version)" = "Kubernetes $VERSION" ]
}
