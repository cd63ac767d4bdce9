//! A rendered resource, and what an agent decides about all of them.

use bytes::Bytes;

use super::{canon, upstreams};

/// How routes reach Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One scope per port and host, each replaced alone.
    #[default]
    ScopedRoutes,
    /// One RouteConfiguration per port, sent whole at each change: the usual layout, kept as
    /// the peer of our benchmarks.
    WholeRds,
}

/// What an agent decides about its Envoys.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that listeners bind.
    pub bind_address: String,
    /// How routes reach Envoy.
    pub layout: Layout,
    /// The static cluster, in Envoy's bootstrap, that leads to the agent.
    pub agent_cluster: String,
    /// Where calls may go.
    pub upstreams: upstreams::Upstreams,
}

/// One resource for Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// A hash of its content: the same after a restart.
    pub version: String,
    /// The encoded message (the `value` of an `Any`).
    pub value: Bytes,
}

impl Rendered {
    /// Canonical bytes in, so their hash will do as version.
    pub(super) fn new(type_url: &'static str, name: String, value: Vec<u8>) -> Self {
        let version = canon::hash(&value);
        Self { type_url, name, version, value: value.into() }
    }
}
