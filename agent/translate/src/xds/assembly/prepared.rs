//! The content of units: rendered publishes at their places.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir;
use crate::xds::member::Member;
use crate::xds::names::Place;
use crate::xds::route::Route;
use crate::xds::{Options, Rendered, cluster, scope};

/// A publish with its clusters and routes, rendered once.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) publish: ir::Publish,
    pub(super) clusters: BTreeMap<String, Rendered>,
    routes: Vec<Route>,
    stamp: u32,
}

impl Prepared {
    /// The same with bytes that differ from those that Envoys rejected.
    pub(super) fn again(&self, stamp: u32, options: &Options) -> Self {
        Self { stamp, ..Self::new(self.publish.clone(), options) }
    }

    pub(super) fn new(publish: ir::Publish, options: &Options) -> Self {
        let mut clusters = BTreeMap::new();
        let mut cluster_of = |backend: &ir::Backend| {
            let rendered = cluster::render(&publish.tenant_id, backend, &options.upstreams);
            let name = rendered.name.clone();
            clusters.insert(name.clone(), rendered);
            name
        };
        let routes = scope::routes(&publish, &mut cluster_of);
        Self { publish, clusters, routes, stamp: 0 }
    }

    pub(super) fn clusters(&self) -> impl Iterator<Item = &Rendered> {
        self.clusters.values()
    }

    pub(super) fn uses(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster)
    }
}

impl Member for Arc<Prepared> {
    fn publish(&self) -> &ir::Publish {
        &self.publish
    }

    fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn stamp(&self) -> u32 {
        self.stamp
    }
}

/// A place, and the gateway that it is served for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnitKey {
    pub(super) gateway: String,
    pub(super) place: Place,
}

impl UnitKey {
    /// Sorts before every other unit of the gateway.
    pub(super) fn first_of(gateway: &str) -> Self {
        Self { gateway: gateway.to_owned(), place: Place { port: 0, host: None } }
    }

    pub(super) fn render(&self, members: &Composition) -> Rendered {
        let port = self.place.port;
        match &self.place.host {
            Some(host) => scope::render(port, host, &members.values().collect::<Vec<_>>()),
            None => {
                let mut hosts: BTreeMap<&str, Vec<&Arc<Prepared>>> = BTreeMap::new();
                for member in members.values() {
                    for host in &member.publish.hostnames {
                        hosts.entry(host).or_default().push(member);
                    }
                }
                scope::render_whole(port, &hosts.into_iter().collect::<Vec<_>>())
            }
        }
    }
}

/// The members of a unit with their revisions.
pub(super) type Composition = BTreeMap<String, Arc<Prepared>>;
