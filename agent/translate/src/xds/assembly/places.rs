//! The places where publishes are served. Gateways share a port, but a host at a port is served for
//! the gateway that had it first.

use std::collections::{BTreeMap, BTreeSet};

use super::prepared::UnitKey;
use crate::xds::Rendered;
use crate::xds::names::Place;

/// The reason why a publish is not served at one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Another gateway has the host at this port.
    #[error("host {host} at port {port} is served for another gateway")]
    Taken { port: u16, host: String },
    /// Every listener of the gateway serves other hosts only.
    #[error("no listener of the gateway serves host {0}")]
    NotAdmitted(String),
}

/// The owner of each place.
#[derive(Debug, Default)]
pub(super) struct Places {
    owners: BTreeMap<Place, Owner>,
}

#[derive(Debug)]
struct Owner {
    gateway: String,
    publishes: BTreeSet<String>,
}

/// Stands for the gateway itself where a table exists without publishes.
pub(super) const ITSELF: &str = "";

impl Places {
    pub(super) fn owner(&self, place: &Place) -> Option<&str> {
        self.owners.get(place).map(|owner| owner.gateway.as_str())
    }

    pub(super) fn take(&mut self, place: &Place, gateway: &str, publish: &str) -> bool {
        let owner = self
            .owners
            .entry(place.clone())
            .or_insert_with(|| Owner { gateway: gateway.to_owned(), publishes: BTreeSet::new() });
        owner.gateway == gateway && {
            owner.publishes.insert(publish.to_owned());
            true
        }
    }

    /// Removes a publish. Returns whether nobody is left.
    pub(super) fn leave(&mut self, place: &Place, publish: &str) -> bool {
        let Some(owner) = self.owners.get_mut(place) else { return false };
        owner.publishes.remove(publish);
        let free = owner.publishes.is_empty();
        if free {
            self.owners.remove(place);
        }
        free
    }

    /// Whether a table stays although it has no publishes.
    pub(super) fn stays_empty(&self, key: &UnitKey) -> bool {
        self.owners
            .get(&key.place)
            .is_some_and(|owner| owner.gateway == key.gateway && owner.publishes.contains(ITSELF))
    }
}

/// A port that Envoy listens on, with its gateways.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) rendered: Rendered,
    pub(super) gateways: BTreeSet<String>,
}
