//! What a labelled Gateway should have: which hosts lead from it to our gateway, and which cannot. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imp_translate::envoy_gateway::{Led as LedTable, MAX_HOST_BYTES, covers, lead};

use super::seen::{Gateway, Name, Policy, Seen};
use crate::fleet::{Led, NotLed, Wanted};

/// The tables that lead to us, and what becomes of each host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tables: Vec<LedTable>,
    /// The hosts of publishes that the tables lead to us.
    pub(super) hosts: BTreeSet<Arc<str>>,
    pub(super) refused: BTreeMap<Arc<str>, NotLed>,
}

impl Plan {
    pub(super) fn of(name: &Name, gateway: &Gateway, wanted: &Wanted, seen: &Seen) -> Self {
        let taken = seen.taken(name);
        let mut refused = BTreeMap::new();
        let (mut by_port, mut bytes) = (BTreeMap::new(), 0);
        let patterns: BTreeSet<&String> =
            gateway.hosts.iter().filter(|host| !taken.contains(host.as_str())).collect();
        for listener in &wanted.gateway.listeners {
            let hosts: &mut BTreeSet<String> = by_port.entry(listener.port).or_default();
            hosts.extend(patterns.iter().map(|host| (*host).clone()));
            bytes += patterns.iter().map(|host| host.len()).sum::<usize>();
        }
        for (port, hosts) in &wanted.hosts {
            let led: &mut BTreeSet<String> = by_port.entry(*port).or_default();
            for host in hosts {
                if taken.contains(host.as_str()) {
                    refused.insert(host.as_str().into(), NotLed::Taken);
                } else if patterns.iter().any(|pattern| covers(pattern, host)) {
                } else if bytes + host.len() > MAX_HOST_BYTES {
                    refused.insert(host.as_str().into(), NotLed::TooMany);
                } else {
                    bytes += host.len();
                    led.insert(host.clone());
                }
            }
        }
        let tables = lead((&name.0, &name.1), &gateway.listeners, &wanted.gateway, &by_port);
        let mut hosts = BTreeSet::new();
        for (port, of_port) in &wanted.hosts {
            for host in of_port {
                let leads = |table: &&LedTable| {
                    table.port == *port && table.hosts.iter().any(|own| covers(own, host))
                };
                let host: Arc<str> = host.as_str().into();
                if refused.contains_key(&host) {
                } else if tables.iter().any(|table| leads(&table)) {
                    hosts.insert(host);
                } else {
                    refused.insert(host, NotLed::NotAdmitted);
                }
            }
        }
        hosts.retain(|host| !refused.contains_key(host));
        Self { tables, hosts, refused }
    }

    /// What leads by now: what led before and still should, and all of it when Envoy Gateway has applied the policy.
    pub(super) fn led(&self, before: &BTreeSet<Arc<str>>, is_applied: bool) -> Led {
        let hosts = if is_applied {
            self.hosts.clone()
        } else {
            self.hosts.intersection(before).cloned().collect()
        };
        Led { hosts, refused: self.refused.clone() }
    }
}

/// Whether Envoy Gateway has applied what we wrote as this generation.
pub(super) fn is_applied(policy: Option<&Policy>, generation: i64) -> bool {
    let programmed = policy.and_then(|policy| policy.programmed.as_ref());
    programmed.is_some_and(|(observed, is_good, _)| *observed >= generation && *is_good)
}
