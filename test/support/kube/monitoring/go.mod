// The CRDs of the Prometheus operator, of which ../../kube-install.sh takes nothing else: its code isn't built.
// To move: change the version, remove go.sum, then `go mod download`.
module quorumbridge/test/support/kube/monitoring

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
