//! Where an upstream is.

use std::net::IpAddr;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointHost {
    /// Needs no resolver.
    Address(IpAddr),
    /// Envoy resolves it.
    Name(String),
}
