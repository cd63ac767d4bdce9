//! Moves publishes to their places, and opens and closes ports. Gateways share a port, but a host at a
//! port is served for the gateway that had it first.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use imp_grammar::hosts::is_wildcard;

use super::Assembly;
use super::change::Change;
use super::places::{Misplaced, Port};
use super::prepared::Prepared;
use super::unit::Unit;
use crate::ir;
use crate::xds::names::{self, Place, Short};
use crate::xds::{self, LISTENER, Layout};

impl Assembly {
    /// Opens and closes ports as a gateway's listeners change. Ports that other gateways use stay.
    pub(super) fn settle_ports(
        &mut self,
        id: &Arc<str>,
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
            shared.gateways.insert(id.clone());
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
    pub(super) fn settle_listener(&mut self, port: u16, change: &mut Change) {
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

    fn close_port(&mut self, port: u16, id: &Arc<str>, change: &mut Change) {
        let Some(shared) = self.ports.get_mut(&port) else { return };
        shared.gateways.remove(id);
        let name = names::listener(port);
        if shared.gateways.is_empty() {
            self.ports.remove(&port);
            change.remove(id, LISTENER, &name);
        } else {
            change.remove_of(id, LISTENER, &name);
        }
        let table = Place { port, host: None }.id();
        if let Some(unit) = self.units.get_mut(&table).filter(|unit| unit.gateway == *id) {
            unit.stays = false;
            self.refresh(table, change);
        }
    }

    /// In the layout with one table per port, Envoy waits for the table even if it is empty.
    fn own_table(&mut self, port: u16, id: &Arc<str>, change: &mut Change) {
        if self.options.layout != Layout::WholeRds {
            return;
        }
        let place = Place { port, host: None };
        let table = place.id();
        if let Some(unit) = self.take(id, table, place) {
            unit.stays = true;
            self.refresh(table, change);
        }
    }

    /// The unit of a place, unless another gateway has it.
    fn take(&mut self, gateway: &Arc<str>, id: Short, place: Place) -> Option<&mut Unit> {
        let unit = self.units.entry(id).or_insert_with(|| Box::new(Unit::new(gateway, place)));
        (unit.gateway == *gateway).then_some(unit)
    }

    /// Moves every publish of a gateway to where its listeners are now.
    pub(super) fn place_again(&mut self, gateway: &str, change: &mut Change) {
        for id in self.publishes_on(gateway) {
            let effective = self.publishes.get(&*id).and_then(|state| state.effective()).cloned();
            self.replace(&id, effective, change);
        }
    }

    /// The publishes that are on this gateway, or were with their previous revision.
    pub fn publishes_on(&self, gateway: &str) -> Vec<String> {
        let ids = self.by_gateway.get(gateway).into_iter().flatten();
        let mut ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        ids.sort_unstable();
        ids
    }

    /// Why a publish is not served at all of its hosts.
    pub fn misplaced(&self, publish_id: &str) -> Option<&Misplaced> {
        self.misplaced.get(publish_id)?.first()
    }

    /// Where it should be served, and its hosts that no listener admits. Nowhere while its gateway
    /// is unknown.
    fn wanted_places(&self, prepared: &Prepared) -> (Vec<Place>, Vec<Misplaced>) {
        let Some(gateway) = self.gateways.get(&prepared.gateway) else { return (vec![], vec![]) };
        if self.options.layout == Layout::WholeRds {
            let ports = gateway.listeners.iter();
            return (ports.map(|it| Place { port: it.port, host: None }).collect(), vec![]);
        }
        let (mut places, mut refused) = (Vec::new(), Vec::new());
        for host in &prepared.hostnames {
            if !self.options.finds_wildcards() && is_wildcard(host) {
                refused.push(Misplaced::NoModule(host.to_string()));
                continue;
            }
            if prepared.is_kept_out(host) {
                refused.push(Misplaced::KeptOut(host.to_string()));
                continue;
            }
            let admits = |listener: &&ir::Listener| {
                listener.hostname.as_ref().is_none_or(|own| **own == **host)
            };
            let before = places.len();
            let admitting = gateway.listeners.iter().filter(admits);
            places.extend(admitting.map(|it| Place { port: it.port, host: Some(host.clone()) }));
            if places.len() == before {
                refused.push(Misplaced::NotAdmitted(host.to_string()));
            }
        }
        (places, refused)
    }

    /// Moves a publish from where it is rendered to where `after` belongs.
    pub(super) fn replace(&mut self, id: &str, after: Option<Arc<Prepared>>, change: &mut Change) {
        let Some(state) = self.publishes.get_mut(id) else { return };
        let old = mem::take(&mut state.placed);
        let (wanted, mut refused) = match &after {
            Some(prepared) => self.wanted_places(prepared),
            None => (vec![], vec![]),
        };
        let wanted: Vec<(Short, Place)> =
            wanted.into_iter().map(|place| (place.id(), place)).collect();
        let stays: BTreeSet<Short> = wanted.iter().map(|(id, _)| *id).collect();
        let mut freed = Vec::new();
        for key in old.iter().filter(|key| !stays.contains(key)) {
            let Some(unit) = self.units.get_mut(key) else { continue };
            unit.leave(id);
            if unit.is_empty() {
                freed.push(unit.place.clone());
            }
            self.refresh(*key, change);
        }
        let places = wanted.iter().map(|(_, place)| place);
        self.kept_out.keep_out(id, after.as_deref(), places, change);
        let mut placed = Vec::with_capacity(wanted.len());
        for ((key, place), prepared) in wanted.into_iter().zip(std::iter::repeat(&after)) {
            let Some(prepared) = prepared else { continue };
            let (port, host) = (place.port, place.host.clone());
            match self.take(&prepared.gateway, key, place) {
                Some(unit) => {
                    unit.join(prepared.clone());
                    placed.push(key);
                }
                None => {
                    let host = host.as_deref().unwrap_or_default().to_owned();
                    refused.push(Misplaced::Taken { port, host });
                }
            }
        }
        for key in &placed {
            self.refresh(*key, change);
        }
        match refused.is_empty() {
            false => self.misplaced.insert(id.to_owned(), refused),
            true => self.misplaced.remove(id),
        };
        if let Some(state) = self.publishes.get_mut(id) {
            state.placed = placed.into();
        }
        // Envoy may have all of it already.
        self.prove(id);
        self.wake(id, &freed, change);
    }

    /// Retries publishes that wait for a place that is now free.
    fn wake(&mut self, but: &str, freed: &[Place], change: &mut Change) {
        let waits = |why: &Misplaced| match why {
            Misplaced::Taken { port, host } => freed.iter().any(|place| {
                place.port == *port && place.host.as_deref().unwrap_or_default() == host
            }),
            Misplaced::NotAdmitted(_) | Misplaced::NoModule(_) | Misplaced::KeptOut(_) => false,
        };
        let waiting: Vec<String> = self
            .misplaced
            .iter()
            .filter(|(id, why)| *id != but && why.iter().any(waits))
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            let effective = self.publishes.get(&*id).and_then(|state| state.effective()).cloned();
            self.replace(&id, effective, change);
        }
    }
}
