//! The state of one agent's configuration: which resources there are, who uses them, what Envoy
//! accepted, and who falls back when it refuses.
//!
//! The unit of change is what Envoy takes or refuses as a whole: a scope (or, in the layout of the
//! benchmarks' peer, a gateway's RouteConfiguration). A publish is a member of one unit per
//! hostname. Every operation re-renders only the units that it touches.
//!
//! When Envoy refuses a unit, the suspects are the members that differ from what it last accepted
//! there. A single suspect is blocked: its last accepted revision comes back everywhere, or it is
//! left out. Of several, half are held back and the rest is tried; each verdict halves the doubt.

mod change;
mod clusters;
mod unit;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ir;
use crate::xds::{self, CLUSTER, EXTENSION, LISTENER, Layout, Options, Rendered};
use change::Change;
use clusters::Clusters;
use unit::{Prepared, Unit, UnitKey};

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
    door: Rendered,
    gateways: HashMap<String, GatewayState>,
    publishes: HashMap<String, PublishState>,
    units: BTreeMap<UnitKey, Unit>,
    clusters: Clusters,
}

#[derive(Debug)]
struct GatewayState {
    gateway: ir::Gateway,
    listeners: BTreeMap<String, Rendered>,
}

#[derive(Debug)]
struct PublishState {
    /// The latest that was set.
    desired: Arc<Prepared>,
    /// The last one of which Envoy accepted everything.
    proven: Option<Arc<Prepared>>,
    /// Envoy refused `desired`.
    blocked: bool,
}

impl PublishState {
    fn effective(&self) -> Option<&Arc<Prepared>> {
        if self.blocked { self.proven.as_ref() } else { Some(&self.desired) }
    }
}

impl Assembly {
    /// Empty.
    pub fn new(options: Options) -> Self {
        Self {
            door: xds::door::render(&options.agent_cluster),
            options,
            gateways: HashMap::new(),
            publishes: HashMap::new(),
            units: BTreeMap::new(),
            clusters: Clusters::default(),
        }
    }

    /// Adds or replaces a gateway.
    pub fn set_gateway(&mut self, gateway: ir::Gateway) -> Delta {
        let mut change = Change::default();
        let id = gateway.id.clone();
        let before = self.gateways.remove(&id);
        if before.is_none() {
            change.upsert(&id, self.door.clone());
        }
        let mut listeners = BTreeMap::new();
        for listener in &gateway.listeners {
            let rendered = xds::listener::render(&id, listener, &self.options);
            let old = before.as_ref().and_then(|state| state.listeners.get(&rendered.name));
            if old != Some(&rendered) {
                change.upsert(&id, rendered.clone());
            }
            listeners.insert(rendered.name.clone(), rendered);
        }
        for name in before.iter().flat_map(|state| state.listeners.keys()) {
            if !listeners.contains_key(name) {
                change.remove(&id, LISTENER, name);
            }
        }
        self.gateways.insert(id.clone(), GatewayState { gateway, listeners });
        if self.options.layout == Layout::WholeRds {
            self.refresh(&UnitKey::whole(&id), &mut change);
        }
        self.finish(change)
    }

    /// Takes a gateway's listeners away. Its publishes stay until they are removed themselves.
    pub fn remove_gateway(&mut self, id: &str) -> Delta {
        let mut change = Change::default();
        if let Some(state) = self.gateways.remove(id) {
            for name in state.listeners.keys() {
                change.remove(id, LISTENER, name);
            }
            if self.options.layout == Layout::WholeRds {
                self.refresh(&UnitKey::whole(id), &mut change);
            }
        }
        self.finish(change)
    }

    /// The gateway as it was set.
    pub fn gateway(&self, id: &str) -> Option<&ir::Gateway> {
        self.gateways.get(id).map(|state| &state.gateway)
    }

    /// Adds or replaces a publish. A revision that was refused before is not tried again; a new one
    /// is.
    pub fn set_publish(&mut self, publish: ir::Publish) -> Delta {
        let mut change = Change::default();
        let id = publish.id.clone();
        let known = self.publishes.get(&id).map(|state| &state.desired.publish);
        if known == Some(&publish) {
            return self.finish(change);
        }
        let desired = Arc::new(Prepared::new(publish, &self.options));
        let before = match self.publishes.get_mut(&id) {
            Some(state) => {
                let before = state.effective().cloned();
                state.desired = desired.clone();
                state.blocked = false;
                before
            }
            None => {
                let state = PublishState { desired: desired.clone(), proven: None, blocked: false };
                self.publishes.insert(id.clone(), state);
                None
            }
        };
        self.replace(&id, before, Some(desired), &mut change);
        self.finish(change)
    }

    /// Makes a publish as it was before a restart: Envoy refused its wanted revision, and `former`
    /// serves in its place, or nothing does. None when that is not the wanted revision.
    pub fn set_refused(
        &mut self,
        id: &str,
        revision: u64,
        former: Option<ir::Publish>,
    ) -> Option<Delta> {
        let state = self.publishes.get_mut(id)?;
        if state.blocked || state.desired.publish.revision != revision {
            return None;
        }
        state.blocked = true;
        state.proven = former.map(|former| Arc::new(Prepared::new(former, &self.options)));
        let (before, after) = (state.desired.clone(), state.proven.clone());
        let mut change = Change::default();
        self.replace(id, Some(before), after, &mut change);
        Some(self.finish(change))
    }

    /// Tries a revision again that was refused by Envoys which are gone, or that others have yet to
    /// judge. `stamp` tells its bytes apart from those that were refused; a new one each time. None
    /// when it was not refused.
    pub fn retry(&mut self, id: &str, stamp: u32) -> Option<Delta> {
        let state = self.publishes.get_mut(id).filter(|state| state.blocked)?;
        let before = state.proven.clone();
        state.desired = Arc::new(state.desired.again(stamp, &self.options));
        state.blocked = false;
        let after = state.desired.clone();
        let mut change = Change::default();
        self.replace(id, before, Some(after), &mut change);
        Some(self.finish(change))
    }

    /// Takes a publish away.
    pub fn remove_publish(&mut self, id: &str) -> Delta {
        let mut change = Change::default();
        if let Some(state) = self.publishes.remove(id) {
            let before = state.effective().cloned();
            self.replace(id, before, None, &mut change);
        }
        self.finish(change)
    }

    /// The revision that is now rendered, and all that must be ACKed for it to be active. None when
    /// the publish or its gateway is unknown, or it is held back or left out.
    pub fn requirements(&self, publish_id: &str) -> Option<(u64, Needs)> {
        let prepared = self.publishes.get(publish_id)?.effective()?;
        let gateway = self.gateways.get(&prepared.publish.gateway_id)?;
        let mut needs: Needs = Vec::new();
        for cluster in prepared.clusters() {
            needs.push((CLUSTER, cluster.name.clone(), cluster.version.clone()));
        }
        let door = &self.door;
        needs.push((EXTENSION, door.name.clone(), door.version.clone()));
        for listener in gateway.listeners.values() {
            needs.push((LISTENER, listener.name.clone(), listener.version.clone()));
        }
        for key in prepared.units(self.options.layout) {
            let unit = self.units.get(&key)?;
            let version = unit.serving(publish_id, prepared)?;
            needs.push((key.type_url(), key.name(), version));
        }
        Some((prepared.publish.revision, needs))
    }

    /// The revision of a publish that Envoy refused, while it is the wanted one.
    pub fn refused(&self, publish_id: &str) -> Option<u64> {
        let state = self.publishes.get(publish_id)?;
        state.blocked.then_some(state.desired.publish.revision)
    }

    /// The revision of a publish of which Envoy accepted everything, last; it is what a refused one
    /// falls back to.
    pub fn proven(&self, publish_id: &str) -> Option<u64> {
        let proven = self.publishes.get(publish_id)?.proven.as_ref()?;
        Some(proven.publish.revision)
    }

    /// Who depends on a resource.
    pub fn publishes_of(&self, gateway_id: &str, type_url: &str, name: &str) -> Vec<String> {
        if type_url == CLUSTER {
            return self.users_of_cluster(name, Some(gateway_id)).into_iter().collect();
        }
        let units = match UnitKey::of_resource(type_url, name) {
            Some(key) => self.units.get(&key).into_iter().collect::<Vec<_>>(),
            None if type_url == LISTENER || type_url == EXTENSION => {
                self.units_of_gateway(gateway_id).map(|(_, unit)| unit).collect()
            }
            None => Vec::new(),
        };
        let mut ids: Vec<String> = units.iter().flat_map(|unit| unit.serving_ids()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn units_of_gateway(&self, gateway: &str) -> impl Iterator<Item = (&UnitKey, &Unit)> {
        let id = gateway.to_owned();
        self.units.range(UnitKey::first_of(gateway)..).take_while(move |(key, _)| key.gateway == id)
    }

    /// Moves a publish from what was rendered of it to what shall be.
    fn replace(
        &mut self,
        id: &str,
        before: Option<Arc<Prepared>>,
        after: Option<Arc<Prepared>>,
        change: &mut Change,
    ) {
        let units = |prepared: &Option<Arc<Prepared>>| {
            prepared.iter().flat_map(|p| p.units(self.options.layout)).collect::<Vec<_>>()
        };
        let (old, new) = (units(&before), units(&after));
        for key in &old {
            if let (false, Some(unit)) = (new.contains(key), self.units.get_mut(key)) {
                unit.leave(id);
            }
        }
        for key in &new {
            if let Some(prepared) = &after {
                let unit = self.units.entry(key.clone()).or_default();
                unit.join(id, prepared.clone());
            }
        }
        for key in new.iter().chain(old.iter().filter(|key| !new.contains(key))) {
            self.refresh(key, change);
        }
    }

    fn finish(&mut self, change: Change) -> Delta {
        change.finish(&mut self.clusters)
    }
}
