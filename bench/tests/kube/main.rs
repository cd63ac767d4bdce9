//! Gateways on a real Envoy Gateway: etcd, kube-apiserver and Envoy Gateway as `deploy/kube/stack.py` starts them, our
//! stack, and a real Envoy with the configuration that Envoy Gateway gives its pods. `make test-kube`.

mod callers;
mod dedicated;
mod eg;
mod fallback;
mod neighbours;
mod protocols;
mod renewal;
mod shared;
mod upgrade;
mod upstreams;
