//! A rendered resource, and the options that apply to all of them.

use bytes::Bytes;

use super::{canon, upstreams};

/// How routes are sent to Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One scope per port and host, each updated separately.
    #[default]
    ScopedRoutes,
    /// One RouteConfiguration per port, sent whole on each change: the usual layout, for comparison
    /// in our benchmarks.
    WholeRds,
}

/// An agent's options for its Envoys.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that listeners bind.
    pub bind_address: String,
    /// How routes are sent to Envoy.
    pub layout: Layout,
    /// The agent's static cluster in Envoy's bootstrap.
    pub agent_cluster: String,
    /// The addresses that calls may be sent to.
    pub upstreams: upstreams::Upstreams,
}

/// One resource for Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub type_url: &'static str,
    pub name: String,
    /// A hash of its content: the same after a restart.
    pub version: String,
    /// The encoded message (the `value` of an `Any`).
    pub value: Bytes,
}

impl Rendered {
    /// Takes canonical bytes, whose hash becomes the version.
    pub(super) fn new(type_url: &'static str, name: String, value: Vec<u8>) -> Self {
        let version = canon::hash(&value);
        Self { type_url, name, version, value: value.into() }
    }
}
