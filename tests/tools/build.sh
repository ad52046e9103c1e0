#!/usr/bin/env bash
# Builds the real parts that tests run against into a cache outside the tree, and prints its path
# on the last line of standard output. Progress goes to standard error. Nothing is done when warm.
#
#   TUNDISH_CACHE        where the cache lives (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tundish)
#   KUBEBUILDER_ASSETS   a folder with kube-apiserver, etcd and kubectl, which are then not built
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TUNDISH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tundish}
started=$(date +%s)

say() { printf '[tools %3ds] %s\n' "$(($(date +%s) - started))" "$*" >&2; }

command -v go >/dev/null || { say "go >= 1.26 is needed: apt-get install golang-go, or https://go.dev/dl"; exit 1; }

export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-mod=readonly

# folder | import path below it | binary
parts=(
  "etcd go.etcd.io/etcd/server/v3 etcd"
  "kubernetes k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver"
  "kubernetes k8s.io/kubernetes/cmd/kubectl kubectl"
  "kubernetes k8s.io/kubernetes/cmd/kube-controller-manager kube-controller-manager"
  "kubernetes k8s.io/kubernetes/cmd/kube-scheduler kube-scheduler"
  "kwok sigs.k8s.io/kwok/cmd/kwok kwok"
  "helm helm.sh/helm/v4/cmd/helm helm"
  "helm3 helm.sh/helm/v3/cmd/helm helm3"
)

key=$(cat "$here"/*/go.sum "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)
out=$cache/tools/$key
mkdir -p "$out"
exec 9>"$cache/tools/lock"
flock 9

# The version is compiled in: without it `kubectl version` and a chart's kubeVersion check fail.
stamp() {
  case "$1" in
    kubernetes)
      local v; v=$(cd "$here/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
      local minor=${v#v1.}; minor=${minor%%.*}
      for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean ' "$p" "$v" "$p" "$p" "$minor" "$p"
      done ;;
    helm|helm3)
      local module=helm.sh/helm/v${1#helm}; [ "$1" = helm ] && module=helm.sh/helm/v4
      printf -- '-X %s/internal/version.version=%s' "$module" "$(cd "$here/$1" && go list -m -f '{{.Version}}' "$module")" ;;
  esac
}

n=0
for part in "${parts[@]}"; do
  read -r folder package binary <<<"$part"
  n=$((n + 1))
  [ -x "$out/$binary" ] || [ -x "${KUBEBUILDER_ASSETS:-/nowhere}/$binary" ] && continue
  say "building $binary ($n of ${#parts[@]}); about ten minutes for all of them on two cores, once"
  (cd "$here/$folder" && go build -trimpath -ldflags "-s -w $(stamp "$folder")" -o "$out/$binary.part" "$package")
  mv "$out/$binary.part" "$out/$binary"
done

# kwok plays the kubelet by stages, which its module carries as files.
if [ ! -d "$out/kwok-stages" ]; then
  module=$(cd "$here/kwok" && go mod download sigs.k8s.io/kwok && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
  mkdir -p "$out/kwok-stages.part"
  for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
    install -m 0644 "$module/kustomize/stage/$stage.yaml" "$out/kwok-stages.part/"
  done
  mv "$out/kwok-stages.part" "$out/kwok-stages"
fi
say "ready in $out"
printf '%s\n' "$out"
