//! Delivery by Gateway API, on a real API server with Envoy Gateway and Envoy as its proxy.
//!
//! `IMP_TEST_KUBE` names a folder with `kubeconfig`, `pki/admin.{crt,key}` and `envoy-certs` of a
//! stack whose GatewayClass is `eg` and that has a namespace `edge`; `IMP_TEST_ADDRESS` an address
//! of this machine that is not loopback, which Envoy Gateway refuses.

mod refused;
mod rig;
mod served;
mod windows;
