//! Renders what leads calls from a Gateway of Envoy Gateway to a gateway of ours, as objects of Kubernetes.
//!
//! The Gateway stays its owner's: listeners, TLS, routes and wildcards. The objects add an internal listener
//! with our chain to its Envoys, and a virtual host that leads there for the hosts that we serve; everything
//! behind that listener (scopes, clusters on demand, enforcement) comes from the agent, so a publish writes
//! no object unless it brings a host that no pattern covers.

mod attachment;
mod bootstrap;
mod json;
mod listeners;
mod patches;
mod secret;

pub use attachment::{Attachment, GATEWAY_LABEL, HOSTS_ANNOTATION, MANAGED_BY, MODE_ANNOTATION};
pub use bootstrap::{Agent, CERTIFICATES, envoy_proxy};
pub use json::NoJson;
pub use listeners::{Dedicated, Led, Listener, Protocol, admits, dedicated, lead};
pub use patches::{MAX_HOST_BYTES, policy};
pub use secret::{Certificate, secret};

#[cfg(test)]
mod tests;
