//! A unit: what Envoy takes or refuses as a whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Assembly;
use super::change::Change;
use crate::ir;
use crate::xds::names::Place;
use crate::xds::{Options, Rendered, cluster, scope};

/// A publish with its clusters and routes, rendered once.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) publish: ir::Publish,
    clusters: BTreeMap<String, Rendered>,
    routes: Vec<scope::Route>,
    stamp: u32,
}

impl Prepared {
    /// The same once more, told apart from what Envoys refused.
    pub(super) fn again(&self, stamp: u32, options: &Options) -> Self {
        Self { stamp, ..Self::new(self.publish.clone(), options) }
    }

    pub(super) fn new(publish: ir::Publish, options: &Options) -> Self {
        let mut clusters = BTreeMap::new();
        let mut cluster_of = |backend: &ir::Backend| {
            let rendered = cluster::render(backend, &options.upstreams);
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

impl scope::Member for Arc<Prepared> {
    fn publish(&self) -> &ir::Publish {
        &self.publish
    }

    fn routes(&self) -> &[scope::Route] {
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

    fn render(&self, members: &Composition) -> Rendered {
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

/// Who is in a unit, and with which revision.
pub(super) type Composition = BTreeMap<String, Arc<Prepared>>;

#[derive(Debug, Default)]
pub(super) struct Unit {
    /// What should be in it.
    members: Composition,
    /// Members that wait while Envoy judges the others.
    held: BTreeSet<String>,
    /// What is in it: the resource's version and content.
    current: Option<Sent>,
    /// Versions since the last accepted one, the current one last.
    pending: VecDeque<Sent>,
    /// What Envoy last took.
    accepted: Option<Sent>,
    /// Clusters of `current` and of `accepted`.
    clusters: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) version: String,
    pub(super) content: Composition,
}

/// Verdicts come for the newest version or not at all; a few older ones may be on their way.
const MAX_PENDING: usize = 16;

fn same(a: &Arc<Prepared>, b: &Arc<Prepared>) -> bool {
    Arc::ptr_eq(a, b) || a.publish == b.publish
}

impl Unit {
    pub(super) fn join(&mut self, id: &str, member: Arc<Prepared>) {
        self.members.insert(id.to_owned(), member);
    }

    pub(super) fn leave(&mut self, id: &str) {
        self.members.remove(id);
        self.held.remove(id);
    }

    pub(super) fn is_current(&self, version: &str) -> bool {
        self.current.as_ref().is_some_and(|sent| sent.version == version)
    }

    pub(super) fn serving_ids(&self) -> Vec<String> {
        self.current.iter().flat_map(|sent| sent.content.keys().cloned()).collect()
    }

    /// The resource's version, if it holds exactly this revision of a publish.
    pub(super) fn serving(&self, id: &str, prepared: &Arc<Prepared>) -> Option<String> {
        let sent = self.current.as_ref()?;
        let member = sent.content.get(id)?;
        same(member, prepared).then(|| sent.version.clone())
    }

    /// Whether Envoy took this revision of a publish.
    pub(super) fn has_accepted(&self, id: &str, prepared: &Arc<Prepared>) -> bool {
        let accepted = self.accepted.as_ref().and_then(|sent| sent.content.get(id));
        accepted.is_some_and(|member| same(member, prepared))
    }

    /// Members that are in it with something that Envoy has not taken yet.
    pub(super) fn suspects(&self) -> Vec<String> {
        let current = self.current.iter().flat_map(|sent| &sent.content);
        let new = current.filter(|(id, member)| !self.has_accepted(id, member));
        new.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn hold(&mut self, ids: impl IntoIterator<Item = String>) {
        self.held.extend(ids);
    }

    pub(super) fn release(&mut self) -> bool {
        !std::mem::take(&mut self.held).is_empty()
    }

    /// Records that Envoy took a version. False when it is not one of the latest.
    pub(super) fn accept(&mut self, version: &str) -> bool {
        let Some(at) = self.pending.iter().position(|sent| sent.version == version) else {
            return false;
        };
        if let Some(sent) = self.pending.drain(..=at).next_back() {
            self.accepted = Some(sent);
        }
        true
    }

    /// What shall be in it: held members with what Envoy took of them, if anything.
    fn wanted(&self) -> Composition {
        let accepted = |id: &String| self.accepted.as_ref()?.content.get(id).cloned();
        let member = |(id, member): (&String, &Arc<Prepared>)| {
            let member = if self.held.contains(id) { accepted(id) } else { Some(member.clone()) };
            member.map(|member| (id.clone(), member))
        };
        self.members.iter().filter_map(member).collect()
    }

    /// Takes `next` as current. Returns whether Envoy has it already.
    fn advance(&mut self, next: Sent) -> bool {
        if let Some(accepted) = self.accepted.as_mut().filter(|sent| sent.version == next.version) {
            accepted.content.clone_from(&next.content);
            self.pending.clear();
            self.current = Some(next);
            return true;
        }
        self.pending.push_back(next.clone());
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        self.current = Some(next);
        false
    }

    /// Clusters that it needs: also those of the accepted version, which serves until Envoy takes
    /// the new one.
    fn needed(&self) -> BTreeMap<String, Rendered> {
        let sent = self.current.iter().chain(&self.accepted);
        let members = sent.flat_map(|sent| sent.content.values());
        members.flat_map(|member| member.clusters.clone()).collect()
    }
}

impl Assembly {
    /// Renders a unit again and records what changed by that.
    pub(super) fn refresh(&mut self, key: &UnitKey, change: &mut Change) {
        let keep_empty = self.places.stays_empty(key);
        if keep_empty {
            self.units.entry(key.clone()).or_default();
        }
        let Some(unit) = self.units.get_mut(key) else { return };
        loop {
            let content = unit.wanted();
            if content.is_empty() && unit.held.is_empty() && !keep_empty {
                break;
            }
            if content.is_empty() && !keep_empty {
                // Everyone waits: judge somebody.
                unit.release();
                continue;
            }
            let rendered = key.render(&content);
            if unit.is_current(&rendered.version) {
                if let Some(current) = &mut unit.current {
                    current.content = content;
                }
                break;
            }
            let version = rendered.version.clone();
            change.upsert(&key.gateway, rendered);
            // No verdict will come for what Envoy has already, so nothing may wait for one.
            if !unit.advance(Sent { version, content }) || !unit.release() {
                break;
            }
        }
        if unit.members.is_empty() && !keep_empty {
            if unit.current.take().is_some() {
                change.remove(&key.gateway, key.place.type_url(), &key.place.name());
            }
            unit.accepted = None;
        }
        self.settle_clusters(key, change);
    }

    /// Brings the users of clusters up to date with a unit.
    pub(super) fn settle_clusters(&mut self, key: &UnitKey, change: &mut Change) {
        let Some(unit) = self.units.get_mut(key) else { return };
        let needed = unit.needed();
        for (name, rendered) in &needed {
            if unit.clusters.insert(name.clone()) {
                self.clusters.enter(rendered, key);
                change.touch_cluster(name);
            }
        }
        for name in unit.clusters.extract_if(.., |name| !needed.contains_key(name)) {
            self.clusters.leave(&name, key);
            change.touch_cluster(&name);
        }
        if unit.members.is_empty() && unit.current.is_none() {
            self.units.remove(key);
        }
    }
}
