//! The state of one agent's configuration: which resources exist, what uses them, what Envoy
//! accepted, and what falls back when it rejects one.
//!
//! The unit of change is what Envoy accepts or rejects as a whole: a scope (or, in the benchmarks'
//! comparison layout, a port's RouteConfiguration). A publish is a member of one unit per hostname.
//! Every operation re-renders only the units that it affects.
//!
//! When Envoy rejects a unit, the suspects are the members that differ from what it last accepted
//! there. A single suspect is blocked: its last accepted revision comes back everywhere, or it is
//! left out. Of several suspects, half are held back and the rest is tried; each verdict halves the
//! number of suspects.

mod change;
mod clusters;
mod delta;
mod places;
mod placing;
mod prepared;
mod refresh;
mod unit;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::ir;
use crate::xds::{self, CLUSTER, EXTENSION, LISTENER, Options, Rendered, names};
use change::Change;
use clusters::Clusters;
pub use delta::{Blame, Delta, GatewayDelta, Needs};
pub use places::Misplaced;
use places::{Places, Port};
use prepared::{Prepared, UnitKey};
use unit::Unit;

/// The configuration of one agent.
#[derive(Debug)]
pub struct Assembly {
    options: Options,
    door: Rendered,
    gateways: HashMap<String, ir::Gateway>,
    ports: BTreeMap<u16, Port>,
    places: Places,
    /// The units of each publish.
    placed: HashMap<String, Vec<UnitKey>>,
    /// Why publishes are not served at all of their hosts.
    misplaced: BTreeMap<String, Vec<Misplaced>>,
    /// Publishes by the gateways of their revisions.
    by_gateway: HashMap<String, BTreeSet<String>>,
    publishes: HashMap<String, PublishState>,
    units: BTreeMap<UnitKey, Unit>,
    clusters: Clusters,
}

#[derive(Debug)]
struct PublishState {
    /// The latest revision that was set.
    desired: Arc<Prepared>,
    /// The last revision of which Envoy accepted everything.
    proven: Option<Arc<Prepared>>,
    /// Whether Envoy rejected `desired`.
    blocked: bool,
}

impl PublishState {
    fn effective(&self) -> Option<&Arc<Prepared>> {
        if self.blocked { self.proven.as_ref() } else { Some(&self.desired) }
    }

    fn gateways(&self) -> impl Iterator<Item = &str> {
        let revisions = self.proven.iter().chain([&self.desired]);
        revisions.map(|prepared| prepared.publish.gateway_id.as_str())
    }
}

impl Assembly {
    /// An empty assembly.
    pub fn new(options: Options) -> Self {
        Self {
            door: xds::door::render(&options.agent_cluster),
            options,
            gateways: HashMap::new(),
            ports: BTreeMap::new(),
            places: Places::default(),
            placed: HashMap::new(),
            misplaced: BTreeMap::new(),
            by_gateway: HashMap::new(),
            publishes: HashMap::new(),
            units: BTreeMap::new(),
            clusters: Clusters::default(),
        }
    }

    /// Adds or replaces a gateway, and moves its publishes to where it listens now.
    pub fn set_gateway(&mut self, gateway: ir::Gateway) -> Delta {
        let mut change = Change::default();
        let id = gateway.id.clone();
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
        if let Some(before) = self.gateways.remove(id) {
            self.place_again(id, &mut change);
            self.settle_ports(id, Some(&before), &mut change);
        }
        self.finish(change)
    }

    /// The gateway as it was set.
    pub fn gateway(&self, id: &str) -> Option<&ir::Gateway> {
        self.gateways.get(id)
    }

    /// The gateways that listen on a port.
    pub fn gateways_at(&self, port: u16) -> impl Iterator<Item = &String> {
        self.ports.get(&port).into_iter().flat_map(|port| &port.gateways)
    }

    /// Adds or replaces a publish. A revision that was rejected before is not tried again; a new
    /// one is.
    pub fn set_publish(&mut self, publish: ir::Publish) -> Delta {
        let mut change = Change::default();
        let id = publish.id.clone();
        let known = self.publishes.get(&id).map(|state| &state.desired.publish);
        if known == Some(&publish) {
            return self.finish(change);
        }
        let desired = Arc::new(Prepared::new(publish, &self.options));
        match self.publishes.get_mut(&id) {
            Some(state) => {
                state.desired = desired.clone();
                state.blocked = false;
            }
            None => {
                let state = PublishState { desired: desired.clone(), proven: None, blocked: false };
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
        let state = self.publishes.get_mut(id)?;
        if state.blocked || state.desired.publish.revision != revision {
            return None;
        }
        state.blocked = true;
        state.proven = former.map(|former| Arc::new(Prepared::new(former, &self.options)));
        let after = state.proven.clone();
        let mut change = Change::default();
        self.index(id);
        self.replace(id, after, &mut change);
        Some(self.finish(change))
    }

    /// Retries a revision that was rejected by Envoys which are gone, or that others have yet to
    /// judge. `stamp` distinguishes its bytes from those that were rejected; it must be new each
    /// time. `None` if it was not rejected.
    pub fn retry(&mut self, id: &str, stamp: u32) -> Option<Delta> {
        let state = self.publishes.get_mut(id).filter(|state| state.blocked)?;
        state.desired = Arc::new(state.desired.again(stamp, &self.options));
        state.blocked = false;
        let after = state.desired.clone();
        let mut change = Change::default();
        self.replace(id, Some(after), &mut change);
        Some(self.finish(change))
    }

    /// Removes a publish.
    pub fn remove_publish(&mut self, id: &str) -> Delta {
        let mut change = Change::default();
        if let Some(state) = self.publishes.remove(id) {
            for gateway in state.gateways() {
                if let Some(ids) = self.by_gateway.get_mut(gateway) {
                    ids.remove(id);
                }
            }
            self.replace(id, None, &mut change);
        }
        self.finish(change)
    }

    /// Indexes the publish by its gateways, so that a change of one finds it.
    fn index(&mut self, id: &str) {
        let Some(state) = self.publishes.get(id) else { return };
        for gateway in state.gateways() {
            self.by_gateway.entry(gateway.to_owned()).or_default().insert(id.to_owned());
        }
    }

    /// The rendered revision, and all that must be ACKed for it to be active. `None` if the publish
    /// or its gateway is unknown, or it is held back, left out or misplaced.
    pub fn requirements(&self, publish_id: &str) -> Option<(u64, Needs)> {
        let prepared = self.publishes.get(publish_id)?.effective()?;
        let placed =
            self.placed.get(publish_id).filter(|_| self.misplaced(publish_id).is_none())?;
        let mut needs: Needs = Vec::new();
        for cluster in prepared.clusters() {
            needs.push((CLUSTER, cluster.name.clone(), cluster.version.clone()));
        }
        let door = &self.door;
        needs.push((EXTENSION, door.name.clone(), door.version.clone()));
        let ports: BTreeSet<u16> = placed.iter().map(|key| key.place.port).collect();
        for port in ports {
            let listener = &self.ports.get(&port)?.rendered;
            needs.push((LISTENER, listener.name.clone(), listener.version.clone()));
        }
        for key in placed {
            let version = self.units.get(key)?.serving(publish_id, prepared)?;
            needs.push((key.place.type_url(), key.place.name(), version));
        }
        Some((prepared.publish.revision, needs))
    }

    /// The wanted revision of a publish, if Envoy rejected it.
    pub fn refused(&self, publish_id: &str) -> Option<u64> {
        let state = self.publishes.get(publish_id)?;
        state.blocked.then_some(state.desired.publish.revision)
    }

    /// The last revision of a publish of which Envoy accepted everything: its fallback.
    pub fn proven(&self, publish_id: &str) -> Option<u64> {
        let proven = self.publishes.get(publish_id)?.proven.as_ref()?;
        Some(proven.publish.revision)
    }

    /// The publishes that depend on a resource.
    pub fn publishes_of(&self, gateway_id: &str, type_url: &str, name: &str) -> Vec<String> {
        if type_url == CLUSTER {
            return self.users_of_cluster(name, Some(gateway_id)).into_iter().collect();
        }
        let of_gateway = || self.units_of_gateway(gateway_id);
        let units: Vec<&Unit> = match type_url {
            EXTENSION => of_gateway().map(|(_, unit)| unit).collect(),
            LISTENER => {
                let port = names::listener_port(name);
                let on_port = |(key, _): &(&UnitKey, &Unit)| Some(key.place.port) == port;
                of_gateway().filter(on_port).map(|(_, unit)| unit).collect()
            }
            _ => {
                self.unit_of(type_url, name).and_then(|k| self.units.get(&k)).into_iter().collect()
            }
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

    /// The unit that a resource is rendered from.
    fn unit_of(&self, type_url: &str, name: &str) -> Option<UnitKey> {
        let place = names::place(type_url, name)?;
        let gateway = self.places.owner(&place)?.to_owned();
        Some(UnitKey { gateway, place })
    }

    fn finish(&mut self, change: Change) -> Delta {
        change.finish(&mut self.clusters)
    }
}
