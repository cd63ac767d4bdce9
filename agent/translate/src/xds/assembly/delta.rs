//! The results of the assembly's operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::xds::Rendered;
use crate::xds::names::Place;

/// The changes for Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Per gateway, for the Envoys that serve that gateway alone.
    pub gateways: BTreeMap<Arc<str>, GatewayDelta>,
    /// For the Envoys that serve all gateways of the cluster.
    pub all: GatewayDelta,
    /// The hosts whose scopes are in this, by the names of those; empty if nobody
    /// asks for them (`Options::tells_hosts`).
    pub hosts: BTreeMap<Arc<str>, Host>,
    /// Hosts that no wildcard above them takes, whether or not they have a scope: true for those that
    /// are to be kept out from now on.
    pub kept_out: BTreeMap<Place, bool>,
}

/// A host at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub place: Place,
    /// The gateway that has it; `None` if its scope is removed.
    pub gateway: Option<Arc<str>>,
}

/// The changes for one group of Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayDelta {
    /// New or changed.
    pub upserts: Vec<Rendered>,
    /// Type URLs and names.
    pub removals: Vec<(&'static str, String)>,
}

/// A publish whose revision Envoy rejected. It fell back to its last accepted revision, or is left
/// out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    pub publish_id: String,
    pub revision: u64,
}

/// The needs of a revision: type URL, name and version of each resource that must be ACKed.
pub type Needs = Vec<(&'static str, Arc<str>, Arc<str>)>;

pub(super) fn put(
    delta: &mut GatewayDelta,
    type_url: &'static str,
    name: &str,
    resource: Option<Rendered>,
) {
    match resource {
        Some(resource) => delta.upserts.push(resource),
        None => delta.removals.push((type_url, name.to_owned())),
    }
}
