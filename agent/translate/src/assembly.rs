//! The state of one agent's configuration: which resources there are, who uses them, what Envoy
//! accepted, and who falls back when it refuses.

use std::collections::BTreeMap;

use crate::ir;
use crate::xds::{Options, Rendered};

/// What changes for Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Per gateway, for the Envoys that serve that gateway alone.
    pub gateways: BTreeMap<String, GatewayDelta>,
    /// For the Envoys that serve all gateways of the cluster.
    pub all: GatewayDelta,
}

/// What changes for one group of Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayDelta {
    /// New or changed.
    pub upserts: Vec<Rendered>,
    /// Type URL and name of what goes.
    pub removals: Vec<(&'static str, String)>,
}

/// A publish whose revision Envoy refused. It fell back to its last accepted revision, or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Which publish.
    pub publish_id: String,
    /// Which revision.
    pub revision: u64,
}

/// What a revision needs: type URL, name and version of each resource that must be ACKed.
pub type Needs = Vec<(&'static str, String, String)>;

/// The configuration of one agent.
#[derive(Debug)]
pub struct Assembly {
    options: Options,
}

impl Assembly {
    /// Empty.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Adds or replaces a gateway.
    pub fn set_gateway(&mut self, _gateway: ir::Gateway) -> Delta {
        Delta::default()
    }

    /// Takes a gateway's listeners away.
    pub fn remove_gateway(&mut self, _id: &str) -> Delta {
        Delta::default()
    }

    /// Adds or replaces a publish. A revision that was refused before is not tried again; a new one
    /// is.
    pub fn set_publish(&mut self, _publish: ir::Publish) -> Delta {
        Delta::default()
    }

    /// Takes a publish away.
    pub fn remove_publish(&mut self, _id: &str) -> Delta {
        Delta::default()
    }

    /// Envoy refused this version. Whoever is to blame falls back alone; while several could be, the
    /// delta holds a part of them back, and later verdicts narrow it down.
    pub fn nacked(
        &mut self,
        _gateway_id: &str,
        _type_url: &str,
        _name: &str,
        _version: &str,
        _message: &str,
    ) -> (Delta, Vec<Blame>) {
        (Delta::default(), Vec::new())
    }

    /// Envoy accepted this version: it is what its publishes fall back to. The delta holds what was
    /// waiting for this (clusters of the former revision go, publishes that were held back come).
    pub fn accepted(
        &mut self,
        _gateway_id: &str,
        _type_url: &str,
        _name: &str,
        _version: &str,
    ) -> Delta {
        Delta::default()
    }

    /// The revision that is now rendered, and all that must be ACKed for it to be active. None when
    /// the publish is unknown, its gateway is unknown, or it is held or left out.
    pub fn requirements(&self, _publish_id: &str) -> Option<(u64, Needs)> {
        None
    }

    /// The revision of a publish that Envoy refused, while it is the wanted one.
    pub fn refused(&self, _publish_id: &str) -> Option<u64> {
        None
    }

    /// Who depends on a resource.
    pub fn publishes_of(&self, _gateway_id: &str, _type_url: &str, _name: &str) -> Vec<String> {
        Vec::new()
    }
}
