//! The state of one agent's configuration: which resources exist, what uses them, what Envoy
//! accepted, and what falls back when it rejects one.
//!
//! The unit of change is what Envoy accepts or rejects as a whole: a scope (or, in the benchmarks'
//! comparison layout, a port's RouteConfiguration). A publish is a member of one unit per hostname.
//! Every operation re-renders only the units that it affects. Units with equal content share a table.
//!
//! When Envoy rejects a unit, the suspects are the members that differ from what it last accepted
//! there. A single suspect is blocked: its last accepted revision comes back everywhere, or it is
//! left out. Of several suspects, half are held back and the rest is tried; each verdict halves the
//! number of suspects. A rejected table is a rejection of every unit that names it.

mod change;
mod clusters;
mod contents;
mod delta;
mod few;
mod keeping_out;
mod places;
mod placing;
mod prepared;
mod questions;
mod refresh;
mod tables;
mod unit;
mod verdict;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::ir;
use crate::xds::names::Short;
use crate::xds::{self, Options, Rendered};
use change::Change;
use clusters::Clusters;
use contents::Contents;
pub use delta::{Blame, Delta, GatewayDelta, Host, Needs};
use keeping_out::KeptOut;
pub use places::Misplaced;
use places::Port;
use prepared::Prepared;
use tables::Tables;
use unit::Unit;

/// The configuration of one agent.
#[derive(Debug)]
pub struct Assembly {
    options: Options,
    door: Rendered,
    gateways: HashMap<Arc<str>, ir::Gateway>,
    ports: BTreeMap<u16, Port>,
    /// Why publishes are not served at all of their hosts.
    misplaced: BTreeMap<String, Vec<Misplaced>>,
    /// Publishes by the gateways of their revisions.
    by_gateway: HashMap<Arc<str>, HashSet<Arc<str>>>,
    publishes: HashMap<Arc<str>, PublishState>,
    /// By the ids of their places, which are the names of their scopes.
    units: HashMap<Short, Box<Unit>>,
    contents: Contents,
    tables: Tables,
    clusters: Clusters,
    kept_out: KeptOut,
}

#[derive(Debug)]
struct PublishState {
    /// The latest revision that was set.
    desired: Arc<Prepared>,
    /// The last revision of which Envoy accepted everything.
    proven: Option<Arc<Prepared>>,
    /// Whether Envoy rejected `desired`.
    blocked: bool,
    /// Its units.
    placed: Box<[Short]>,
}

impl PublishState {
    fn effective(&self) -> Option<&Arc<Prepared>> {
        if self.blocked { self.proven.as_ref() } else { Some(&self.desired) }
    }

    fn revisions(&self) -> impl Iterator<Item = &Arc<Prepared>> {
        self.proven.iter().chain([&self.desired])
    }
}

impl Assembly {
    /// An empty assembly.
    pub fn new(options: Options) -> Self {
        Self {
            door: xds::door::render(&options),
            options,
            gateways: HashMap::new(),
            ports: BTreeMap::new(),
            misplaced: BTreeMap::new(),
            by_gateway: HashMap::new(),
            publishes: HashMap::new(),
            units: HashMap::new(),
            contents: Contents::default(),
            tables: Tables::default(),
            clusters: Clusters::default(),
            kept_out: KeptOut::default(),
        }
    }

    /// Adds or replaces a gateway, and moves its publishes to where it listens now.
    pub fn set_gateway(&mut self, gateway: ir::Gateway) -> Delta {
        let mut change = Change::default();
        let id = self.gateway_id(&gateway.id);
        let before = self.gateways.insert(id.clone(), gateway);
        if before.is_none() {
            change.upsert(&id, self.door.clone());
        }
        self.settle_ports(&id, before.as_ref(), &mut change);
        if before.as_ref() != self.gateways.get(&id) {
            self.place_again(&id, &mut change);
        }
        self.finish(change)
    }

    /// Removes a gateway. Its publishes are served nowhere until it comes back.
    pub fn remove_gateway(&mut self, id: &str) -> Delta {
        let mut change = Change::default();
        if let Some((id, before)) = self.gateways.remove_entry(id) {
            self.place_again(&id, &mut change);
            self.settle_ports(&id, Some(&before), &mut change);
        }
        self.finish(change)
    }

    /// Adds or replaces a publish. A revision that was rejected before is not tried again; a new
    /// one is.
    pub fn set_publish(&mut self, publish: ir::Publish) -> Delta {
        let mut change = Change::default();
        let desired = Arc::new(self.prepare(&publish));
        let id = desired.id.clone();
        match self.publishes.get_mut(&id) {
            Some(state) if state.desired.is(&desired) => return self.finish(change),
            Some(state) => {
                state.desired = desired.clone();
                state.blocked = false;
            }
            None => {
                let (proven, blocked) = (None, false);
                let desired = desired.clone();
                let state = PublishState { desired, proven, blocked, placed: Box::default() };
                self.publishes.insert(id.clone(), state);
            }
        }
        self.index(&id);
        self.replace(&id, Some(desired), &mut change);
        self.finish(change)
    }

    /// Restores a publish from before a restart: Envoy rejected its wanted revision, and `former`
    /// or nothing serves in its place. `None` if that is not the wanted revision.
    pub fn set_refused(
        &mut self,
        id: &str,
        revision: u64,
        former: Option<ir::Publish>,
    ) -> Option<Delta> {
        let is_wanted =
            |state: &&PublishState| !state.blocked && state.desired.revision == revision;
        self.publishes.get(id).filter(is_wanted)?;
        let proven = former.map(|former| Arc::new(self.prepare(&former)));
        let state = self.publishes.get_mut(id)?;
        state.blocked = true;
        self.contents.refuse(state.desired.content.key, state.desired.stamp);
        state.proven.clone_from(&proven);
        let mut change = Change::default();
        self.index(id);
        self.replace(id, proven, &mut change);
        Some(self.finish(change))
    }

    /// Retries a revision that was rejected by Envoys which are gone, or that others have yet to
    /// judge. `stamp` distinguishes its bytes from those that were rejected; it must be new each
    /// time. `None` if it was not rejected.
    pub fn retry(&mut self, id: &str, stamp: u32) -> Option<Delta> {
        let state = self.publishes.get_mut(id).filter(|state| state.blocked)?;
        state.desired = Arc::new(Prepared { stamp, ..(*state.desired).clone() });
        state.blocked = false;
        let after = state.desired.clone();
        let mut change = Change::default();
        self.replace(id, Some(after), &mut change);
        Some(self.finish(change))
    }

    /// Removes a publish.
    pub fn remove_publish(&mut self, id: &str) -> Delta {
        let mut change = Change::default();
        self.replace(id, None, &mut change);
        if let Some(state) = self.publishes.remove(id) {
            self.misplaced.remove(id);
            for revision in state.revisions() {
                if let Some(ids) = self.by_gateway.get_mut(&revision.gateway) {
                    ids.remove(id);
                }
            }
        }
        self.finish(change)
    }

    fn prepare(&mut self, publish: &ir::Publish) -> Prepared {
        let (content, stamp) = self.contents.of(publish, &self.options, &self.clusters);
        let known = self.publishes.get_key_value(&*publish.id).map(|(id, _)| id.clone());
        Prepared {
            id: known.unwrap_or_else(|| publish.id.clone()),
            gateway: self.gateway_id(&publish.gateway_id),
            revision: publish.revision,
            hostnames: publish.hostnames.as_slice().into(),
            kept_out: (!publish.kept_out.is_empty()).then(|| publish.kept_out.as_slice().into()),
            content,
            stamp,
        }
    }

    /// The id, shared by all that name the gateway.
    fn gateway_id(&self, id: &str) -> Arc<str> {
        let known = self.gateways.get_key_value(id).map(|(id, _)| id);
        let known = known.or_else(|| self.by_gateway.get_key_value(id).map(|(id, _)| id));
        known.cloned().unwrap_or_else(|| id.into())
    }

    /// Indexes the publish by its gateways, so that a change of one finds it.
    fn index(&mut self, id: &str) {
        let Some((id, state)) = self.publishes.get_key_value(id) else { return };
        for revision in state.revisions() {
            self.by_gateway.entry(revision.gateway.clone()).or_default().insert(id.clone());
        }
    }

    fn finish(&mut self, change: Change) -> Delta {
        let mut delta = Delta::default();
        for name in &change.clusters {
            self.clusters.settle(name, &mut delta);
        }
        for key in &change.tables {
            self.tables.settle(*key, &mut delta);
        }
        self.kept_out.settle(&change.kept_out, &mut delta);
        change.finish(delta)
    }
}
