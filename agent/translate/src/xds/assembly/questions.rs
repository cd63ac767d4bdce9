//! What the assembly tells about its state.

use std::collections::BTreeSet;
use std::sync::Arc;

use imp_grammar::hosts::is_wildcard;

use super::Assembly;
use super::delta::Needs;
use super::unit::Unit;
use crate::ir;
use crate::xds::names::{self, Named, Place};
use crate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, Rendered};

impl Assembly {
    /// The gateway as it was set.
    pub fn gateway(&self, id: &str) -> Option<&ir::Gateway> {
        self.gateways.get(id)
    }

    /// The gateways that listen on a port.
    pub fn gateways_at(&self, port: u16) -> impl Iterator<Item = &Arc<str>> {
        self.ports.get(&port).into_iter().flat_map(|port| &port.gateways)
    }

    /// Whether a place has a scope, or should have one.
    pub fn has_place(&self, place: &Place) -> bool {
        self.units.contains_key(&place.id())
    }

    /// Whether a place is kept out of wildcards.
    pub fn keeps_out(&self, place: &Place) -> bool {
        self.kept_out.has(place)
    }

    /// The rendered revision, and all that must be ACKed for it to be active. `None` if the publish
    /// or its gateway is unknown, or it is held back, left out or misplaced.
    pub fn requirements(&self, publish_id: &str) -> Option<(u64, Needs)> {
        let state = self.publishes.get(publish_id)?;
        let prepared = state.effective()?;
        if state.placed.is_empty() || self.misplaced(publish_id).is_some() {
            return None;
        }
        let mut needs: Needs = Vec::new();
        for cluster in &prepared.content.clusters {
            needs.push((CLUSTER, cluster.name.clone(), cluster.version.clone()));
        }
        let door = &self.door;
        needs.push((EXTENSION, door.name.clone(), door.version.clone()));
        let units = state.placed.iter().map(|id| self.units.get(id));
        let units = units.map(|unit| unit.map(|unit| &**unit)).collect::<Option<Vec<&Unit>>>()?;
        let ports: BTreeSet<u16> = units.iter().map(|unit| unit.place.port).collect();
        for port in ports {
            let listener = &self.ports.get(&port)?.rendered;
            needs.push((LISTENER, listener.name.clone(), listener.version.clone()));
        }
        let served = units.iter().map(|unit| unit.serving(prepared));
        let served = served.collect::<Option<Vec<_>>>()?;
        let tables: BTreeSet<_> = served.iter().filter_map(|sent| sent.table).collect();
        for key in tables {
            let (name, version) = self.tables.sent(&key)?;
            needs.push((ROUTES, name.clone(), version.clone()));
        }
        for (unit, sent) in units.iter().zip(served) {
            needs.push((unit.place.type_url(), unit.name.clone(), sent.version.clone()));
        }
        needs.shrink_to_fit();
        Some((prepared.revision, needs))
    }

    /// The rendered resource of which an Envoy without the module gets another; `None` if there is no
    /// such, or the name is none.
    pub fn with_plain(&self, type_url: &str, name: &str) -> Option<&Rendered> {
        let rendered = match type_url {
            EXTENSION if *self.door.name == *name => &self.door,
            LISTENER => &self.ports.get(&names::listener_port(name)?)?.rendered,
            _ => return None,
        };
        rendered.plain.is_some().then_some(rendered)
    }

    /// All that Envoys without the module get instead.
    pub fn plain(&self) -> impl Iterator<Item = &Rendered> {
        let listeners = self.ports.values().map(|port| &port.rendered);
        listeners.chain([&self.door]).filter_map(|rendered| rendered.plain.as_deref())
    }

    /// The first wildcard at which a publish is served, which an Envoy needs the module for.
    pub fn wildcard_of(&self, publish_id: &str) -> Option<&str> {
        let placed = &self.publishes.get(publish_id)?.placed;
        let hosts = placed.iter().filter_map(|id| self.units.get(id)?.place.host.as_deref());
        hosts.into_iter().find(|host| is_wildcard(host))
    }

    /// The name and version of the resource of a place, as they are held.
    pub fn held(&self, type_url: &str, name: &str) -> Option<(&Arc<str>, &Arc<str>)> {
        let Some(Named::Place(id)) = names::read(type_url, name) else { return None };
        let unit = self.units.get(&id)?;
        Some((&unit.name, &unit.current.as_ref()?.version))
    }

    /// The only gateway that has a resource. `None` if there may be others.
    pub fn gateway_with(&self, type_url: &str, name: &str) -> Option<&Arc<str>> {
        match names::read(type_url, name)? {
            Named::Place(id) => Some(&self.units.get(&id)?.gateway),
            Named::Table(short) | Named::Holder(short) => {
                self.tables.gateway(&self.tables.key(short)?)
            }
        }
    }

    /// The wanted revision of a publish, if Envoy rejected it.
    pub fn refused(&self, publish_id: &str) -> Option<u64> {
        let state = self.publishes.get(publish_id)?;
        state.blocked.then_some(state.desired.revision)
    }

    /// The last revision of a publish of which Envoy accepted everything: its fallback.
    pub fn proven(&self, publish_id: &str) -> Option<u64> {
        let proven = self.publishes.get(publish_id)?.proven.as_ref()?;
        Some(proven.revision)
    }

    /// The publishes that depend on a resource.
    pub fn publishes_of(&self, gateway_id: &str, type_url: &str, name: &str) -> Vec<String> {
        let mut ids: Vec<String> = match type_url {
            CLUSTER => {
                let users = self.users_of_cluster(name, Some(gateway_id));
                users.iter().map(|id| id.to_string()).collect()
            }
            EXTENSION => self.served_at(gateway_id, |_| true).collect(),
            LISTENER => {
                let port = names::listener_port(name);
                self.served_at(gateway_id, move |unit| Some(unit.place.port) == port).collect()
            }
            _ => {
                let units = match names::read(type_url, name) {
                    Some(Named::Place(id)) => vec![id],
                    Some(Named::Table(short)) => self
                        .tables
                        .key(short)
                        .map(|key| self.tables.units(&key))
                        .unwrap_or_default(),
                    Some(Named::Holder(_)) | None => vec![],
                };
                let units = units.iter().filter_map(|id| self.units.get(id));
                units.flat_map(|unit| unit.serving_ids()).map(|id| id.to_string()).collect()
            }
        };
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The publishes of a gateway that units like this serve.
    fn served_at(
        &self,
        gateway: &str,
        of_kind: impl Fn(&Unit) -> bool,
    ) -> impl Iterator<Item = String> {
        let serves = move |id: &Arc<str>| {
            let placed = self.publishes.get(id).into_iter().flat_map(|state| &state.placed);
            let mut units = placed.filter_map(|unit| self.units.get(unit));
            units.any(|it| {
                *it.gateway == *gateway && of_kind(it) && it.serving_ids().any(|i| i == id)
            })
        };
        let ids = self.by_gateway.get(gateway).into_iter().flatten();
        ids.filter(move |id| serves(id)).map(|id| id.to_string())
    }

    /// A resource as people know it: a scope, or a table that this publish needs, by port and host.
    pub fn described(&self, publish_id: &str, type_url: &str, name: &str) -> String {
        let place = match names::read(type_url, name) {
            Some(Named::Place(id)) => self.units.get(&id).map(|unit| &unit.place),
            Some(Named::Table(short)) => {
                let key = self.tables.key(short);
                let placed = self.publishes.get(publish_id).into_iter().flat_map(|it| &it.placed);
                let mut units = placed.filter_map(|id| self.units.get(id));
                units.find(|unit| key.is_some() && unit.key == key).map(|unit| &unit.place)
            }
            Some(Named::Holder(_)) | None => None,
        };
        place.filter(|place| place.host.is_some()).map_or(name.to_owned(), ToString::to_string)
    }
}
