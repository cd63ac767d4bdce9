//! A rendered resource, and the options that apply to all of them.

use std::sync::Arc;

use bytes::Bytes;

use super::{canon, upstreams};

/// How routes are sent to Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One scope per port and host, each updated separately. Hosts with equal content share a table.
    #[default]
    ScopedRoutes,
    /// The same without shared tables, for comparison in our benchmarks.
    InlineScopes,
    /// One RouteConfiguration per port, sent whole on each change: the usual layout, for comparison
    /// in our benchmarks.
    WholeRds,
}

/// Which filter decides about calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Envoy asks the agent about each call.
    #[default]
    ExtAuthz,
    /// The same, after the module: routes say what it reads, because Envoys may still have it.
    AfterModule,
    /// A module inside Envoy decides.
    Module(Module),
}

/// The module, on Envoy's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The library. Envoy does not verify it: the agent has.
    pub file: String,
    /// Where the library's state is, as JSON.
    pub state: String,
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
    /// What decides about calls.
    pub door: Door,
    /// Whether deltas tell the hosts that have scopes, though no module asks for them.
    pub tells_hosts: bool,
}

impl Options {
    /// Whether routes tell of themselves what the module reads.
    pub(super) fn has_module(&self) -> bool {
        self.door != Door::ExtAuthz
    }

    /// Whether Envoys that can have it find wildcards.
    pub(super) fn finds_wildcards(&self) -> bool {
        matches!(self.door, Door::Module(_))
    }
}

/// One resource for Envoy. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub type_url: &'static str,
    pub name: Arc<str>,
    /// A hash of its content: the same after a restart.
    pub version: Arc<str>,
    /// The encoded message (the `value` of an `Any`).
    pub value: Bytes,
    /// The table of routes that Envoy must have before it gets this.
    pub table: Option<Arc<str>>,
    /// What an Envoy without the module gets instead, if that is something else.
    pub plain: Option<Arc<Rendered>>,
}

impl Rendered {
    /// Takes canonical bytes, whose hash becomes the version.
    pub(super) fn new(type_url: &'static str, name: impl Into<Arc<str>>, value: Vec<u8>) -> Self {
        let version = canon::hash(&value).into();
        Self { type_url, name: name.into(), version, value: value.into(), table: None, plain: None }
    }
}
