//! A real API server and Envoy Gateway, as `deploy/kube/stack.py run` starts them, with our stack beside them: for tests
//! (`make test-kube`) and for `make bench-eg`.

mod api;
mod edge;
mod pod;

pub use self::api::{
    Api, Down, ENVOY_GATEWAY, GATEWAYS, SYSTEM, folder, has_condition, upgrade, variable,
};
pub use self::edge::{Edge, EdgeOptions, OURS, pod_of_ours, stack};
pub use self::pod::Pod;
