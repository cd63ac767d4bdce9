//! Where a single host stands, told without the others. Below a pattern that leads to us whatever hosts there are, a host that
//! comes or goes changes no table, so nothing else needs to be looked at.

use std::collections::{BTreeMap, BTreeSet};

use imp_translate::envoy_gateway::{Led as LedTable, Listener, admits};
use imp_translate::ir;

use super::plan::covered;
use crate::fleet::{ChangedHost, NotLed, Stands};

/// What a plan was made of, besides the hosts of publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    Shared {
        /// Hosts of somebody's routes.
        taken: BTreeSet<String>,
        /// What always leads to us, by port.
        patterns: BTreeMap<u16, BTreeSet<String>>,
        /// The same by table, as far as its listener admits it.
        tables: Vec<(u16, BTreeSet<String>)>,
    },
    Dedicated {
        listeners: Vec<Listener>,
        gateway: ir::Gateway,
    },
}

impl Default for Rules {
    fn default() -> Self {
        let (taken, patterns, tables) = Default::default();
        Self::Shared { taken, patterns, tables }
    }
}

impl Rules {
    pub(super) fn shared(
        taken: &BTreeSet<&str>,
        patterns: BTreeMap<u16, BTreeSet<String>>,
        tables: &[LedTable],
    ) -> Self {
        let of_table = |table: &LedTable| {
            let patterns = patterns.get(&table.port).into_iter().flatten();
            (table.port, patterns.filter(|it| table.hosts.contains(*it)).cloned().collect())
        };
        Self::Shared {
            taken: taken.iter().map(|host| (*host).to_owned()).collect(),
            tables: tables.iter().map(of_table).collect(),
            patterns,
        }
    }

    pub(super) fn dedicated(listeners: &[Listener], gateway: &ir::Gateway) -> Self {
        Self::Dedicated { listeners: listeners.to_vec(), gateway: gateway.clone() }
    }

    /// Where a host stands that came or went. `None` if the others must be looked at.
    pub(super) fn stands(&self, of: &ChangedHost) -> Option<Stands> {
        let host = &*of.host;
        let mut there = of.ports.iter().filter(|(_, is_there)| **is_there).map(|(port, _)| *port);
        let is_gone = there.clone().next().is_none();
        match self {
            Self::Shared { taken, patterns, tables } => {
                let is_covered =
                    |port: &u16| patterns.get(port).is_some_and(|patterns| covered(patterns, host));
                if !of.ports.keys().all(is_covered) {
                    return None;
                }
                if is_gone {
                    return Some(Stands::Nowhere);
                }
                if taken.contains(host) {
                    return Some(Stands::Refused(NotLed::Taken));
                }
                let leads = |port: u16| {
                    let mut of_port = tables.iter().filter(|(of, _)| *of == port);
                    of_port.any(|(_, patterns)| covered(patterns, host))
                };
                there.any(leads).then_some(Stands::Leads)
            }
            Self::Dedicated { .. } if is_gone => Some(Stands::Nowhere),
            Self::Dedicated { listeners, gateway } => {
                match there.any(|port| admits(listeners, gateway, (port, host))) {
                    true => Some(Stands::Leads),
                    false => Some(Stands::Refused(NotLed::NotAdmitted)),
                }
            }
        }
    }
}
