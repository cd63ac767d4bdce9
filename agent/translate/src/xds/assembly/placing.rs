//! Moves publishes to their places, and opens and closes ports.

use std::collections::BTreeSet;

use super::Assembly;
use super::change::Change;
use super::places::{ITSELF, Misplaced, Port};
use super::prepared::{Prepared, UnitKey};
use crate::ir;
use crate::xds::names::{self, Place};
use crate::xds::{self, LISTENER, Layout};

impl Assembly {
    /// Opens and closes ports as a gateway's listeners change. Ports that other gateways use stay.
    pub(super) fn settle_ports(
        &mut self,
        id: &str,
        before: Option<&ir::Gateway>,
        change: &mut Change,
    ) {
        let ports = |gateway: Option<&ir::Gateway>| -> BTreeSet<u16> {
            gateway.iter().flat_map(|g| &g.listeners).map(|listener| listener.port).collect()
        };
        let (old, new) = (ports(before), ports(self.gateways.get(id)));
        for port in old.difference(&new) {
            self.close_port(*port, id, change);
        }
        for port in new.difference(&old) {
            let (edge, options) = (self.edge(id), &self.options);
            let shared = self.ports.entry(*port).or_insert_with(|| Port {
                rendered: xds::listener::render(*port, &edge, options),
                gateways: BTreeSet::new(),
            });
            let resource = shared.rendered.clone();
            if shared.gateways.is_empty() {
                change.upsert(id, resource);
            } else {
                change.upsert_of(id, resource);
            }
            shared.gateways.insert(id.to_owned());
            self.own_table(*port, id, change);
        }
        for port in old.union(&new) {
            self.settle_listener(*port, change);
        }
    }

    fn edge(&self, gateway: &str) -> ir::Edge {
        self.gateways.get(gateway).map(|gateway| gateway.edge).unwrap_or_default()
    }

    /// Renders a listener again after its gateway's settings changed. The control plane lets
    /// gateways share a port only with equal settings; if they differ, those of the first gateway
    /// count, in any order of arrival.
    fn settle_listener(&mut self, port: u16, change: &mut Change) {
        let Some(shared) = self.ports.get(&port) else { return };
        let first = shared.gateways.first().map(|first| self.edge(first)).unwrap_or_default();
        let rendered = xds::listener::render(port, &first, &self.options);
        let Some(shared) = self.ports.get_mut(&port) else { return };
        if shared.rendered.version == rendered.version {
            return;
        }
        shared.rendered = rendered;
        for (place, gateway) in shared.gateways.iter().enumerate() {
            match place {
                0 => change.upsert(gateway, shared.rendered.clone()),
                _ => change.upsert_of(gateway, shared.rendered.clone()),
            }
        }
    }

    fn close_port(&mut self, port: u16, id: &str, change: &mut Change) {
        let Some(shared) = self.ports.get_mut(&port) else { return };
        shared.gateways.remove(id);
        let name = names::listener(port);
        if shared.gateways.is_empty() {
            self.ports.remove(&port);
            change.remove(id, LISTENER, &name);
        } else {
            change.remove_of(id, LISTENER, &name);
        }
        let key = UnitKey { gateway: id.to_owned(), place: Place { port, host: None } };
        if self.places.stays_empty(&key) {
            self.places.leave(&key.place, ITSELF);
            self.refresh(&key, change);
        }
    }

    /// In the layout with one table per port, Envoy waits for the table even if it is empty.
    fn own_table(&mut self, port: u16, id: &str, change: &mut Change) {
        let key = UnitKey { gateway: id.to_owned(), place: Place { port, host: None } };
        if self.options.layout == Layout::WholeRds && self.places.take(&key.place, id, ITSELF) {
            self.refresh(&key, change);
        }
    }

    /// Moves every publish of a gateway to where its listeners are now.
    pub(super) fn place_again(&mut self, gateway: &str, change: &mut Change) {
        for id in self.publishes_on(gateway) {
            let effective = self.publishes.get(&id).and_then(|state| state.effective()).cloned();
            self.replace(&id, effective, change);
        }
    }

    /// The publishes that are on this gateway, or were with their previous revision.
    pub fn publishes_on(&self, gateway: &str) -> Vec<String> {
        self.by_gateway.get(gateway).into_iter().flatten().cloned().collect()
    }

    /// Why a publish is not served at all of its hosts.
    pub fn misplaced(&self, publish_id: &str) -> Option<&Misplaced> {
        self.misplaced.get(publish_id)?.first()
    }

    /// Where it should be served, and its hosts that no listener admits. Nowhere while its gateway
    /// is unknown.
    fn wanted_units(&self, prepared: &Prepared) -> (Vec<UnitKey>, Vec<Misplaced>) {
        let publish = &prepared.publish;
        let Some(gateway) = self.gateways.get(&publish.gateway_id) else { return (vec![], vec![]) };
        let unit = |port: u16, host: Option<&String>| UnitKey {
            gateway: gateway.id.clone(),
            place: Place { port, host: host.cloned() },
        };
        if self.options.layout == Layout::WholeRds {
            let ports = gateway.listeners.iter().map(|listener| unit(listener.port, None));
            return (ports.collect(), vec![]);
        }
        let (mut units, mut refused) = (Vec::new(), Vec::new());
        for host in &publish.hostnames {
            let admits =
                |listener: &&ir::Listener| listener.hostname.as_ref().is_none_or(|own| own == host);
            let before = units.len();
            let admitting = gateway.listeners.iter().filter(admits);
            units.extend(admitting.map(|listener| unit(listener.port, Some(host))));
            if units.len() == before {
                refused.push(Misplaced::NotAdmitted(host.clone()));
            }
        }
        (units, refused)
    }

    /// Moves a publish from where it is rendered to where `after` belongs.
    pub(super) fn replace(
        &mut self,
        id: &str,
        after: Option<std::sync::Arc<Prepared>>,
        change: &mut Change,
    ) {
        let old = self.placed.remove(id).unwrap_or_default();
        let (wanted, mut refused) = match &after {
            Some(prepared) => self.wanted_units(prepared),
            None => (vec![], vec![]),
        };
        let mut freed = Vec::new();
        for key in old.iter().filter(|key| !wanted.contains(key)) {
            if self.places.leave(&key.place, id) {
                freed.push(key.place.clone());
            }
            if let Some(unit) = self.units.get_mut(key) {
                unit.leave(id);
            }
            self.refresh(key, change);
        }
        let mut placed = Vec::with_capacity(wanted.len());
        for key in wanted {
            if self.places.take(&key.place, &key.gateway, id) {
                if let Some(prepared) = &after {
                    self.units.entry(key.clone()).or_default().join(id, prepared.clone());
                }
                placed.push(key);
            } else {
                refused.push(Misplaced::Taken {
                    port: key.place.port,
                    host: key.place.host.clone().unwrap_or_default(),
                });
            }
        }
        for key in &placed {
            self.refresh(key, change);
        }
        match refused.is_empty() {
            false => self.misplaced.insert(id.to_owned(), refused),
            true => self.misplaced.remove(id),
        };
        if !placed.is_empty() {
            self.placed.insert(id.to_owned(), placed);
        }
        self.wake(id, &freed, change);
    }

    /// Retries publishes that wait for a place that is now free.
    fn wake(&mut self, but: &str, freed: &[Place], change: &mut Change) {
        let waits = |why: &Misplaced| match why {
            Misplaced::Taken { port, host } => freed.iter().any(|place| {
                place.port == *port && place.host.as_deref().unwrap_or_default() == host
            }),
            Misplaced::NotAdmitted(_) => false,
        };
        let waiting: Vec<String> = self
            .misplaced
            .iter()
            .filter(|(id, why)| *id != but && why.iter().any(waits))
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            let effective = self.publishes.get(&id).and_then(|state| state.effective()).cloned();
            self.replace(&id, effective, change);
        }
    }
}
