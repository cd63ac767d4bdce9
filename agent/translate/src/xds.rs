//! Envoy's side: the type URLs, and one renderer per kind of resource.

use bytes::Bytes;

/// `Listener`: one per port; never changes with a publish, nor with a gateway that shares the port.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `Cluster`: one per distinct backend, named by its content.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `ScopedRouteConfiguration`: one per port and host.
pub const SCOPE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// `RouteConfiguration`: only in [`Layout::WholeRds`], one per port.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `TypedExtensionConfig` (ECDS): the filters that stand in the listener's slots.
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

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

mod canon;
pub mod cluster;
pub mod door;
pub mod filter;
mod host;
pub mod listener;
mod methods;
pub mod names;
mod path;
mod policy;
mod route;
pub mod scope;
pub mod upstreams;

impl Rendered {
    /// Canonical bytes in, so their hash will do as version.
    fn new(type_url: &'static str, name: String, value: Vec<u8>) -> Self {
        let version = canon::hash(&value);
        Self { type_url, name, version, value: value.into() }
    }
}
