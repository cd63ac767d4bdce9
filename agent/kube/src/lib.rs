//! The agent's side to Kubernetes: applies sets of objects, removes what left them, and watches
//! what others make of them. Knows no publish and no Envoy.
