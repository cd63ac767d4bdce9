//! Which of a Gateway's listeners lead to which port of a gateway of ours, and with which hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir;

/// What a listener of a Gateway speaks, as far as we can be behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
    /// Exact, or a wildcard.
    pub hostname: Option<String>,
}

/// A table of routes of Envoy Gateway, and what of it leads to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The RouteConfiguration's name.
    pub table: String,
    /// The port of our gateway.
    pub port: u16,
    pub hosts: BTreeSet<String>,
}

/// The tables of the Gateway that lead to the gateway, each with those of `hosts` (by our port) that its
/// listener admits. Listeners that no listener of ours belongs to are left alone: one of ours belongs to the
/// one of its name, else of its port, and an only one to all.
pub fn lead(
    (namespace, name): (&str, &str),
    listeners: &[Listener],
    gateway: &ir::Gateway,
    hosts: &BTreeMap<u16, BTreeSet<String>>,
) -> Vec<Led> {
    let mut led = Vec::new();
    let mut plain = BTreeSet::new();
    for listener in listeners {
        // Plain listeners of one port share the table of the first.
        if listener.protocol == Protocol::Http && !plain.insert(listener.port) {
            continue;
        }
        let Some(port) = port_behind(listener, &gateway.listeners) else { continue };
        let shares = |other: &&Listener| {
            listener.protocol == Protocol::Http
                && other.protocol == Protocol::Http
                && other.port == listener.port
        };
        let admits = |host: &&String| {
            let mut own = listeners.iter().filter(shares).chain([listener]);
            own.any(|it| it.hostname.as_ref().is_none_or(|of| covers(of, host)))
        };
        let admitted = hosts.get(&port).into_iter().flatten().filter(admits).cloned();
        led.push(Led {
            table: format!("{namespace}/{name}/{}", listener.name),
            port,
            hosts: admitted.collect(),
        });
    }
    led
}

fn port_behind(listener: &Listener, ours: &[ir::Listener]) -> Option<u16> {
    let named = ours.iter().find(|own| *own.name == *listener.name);
    let at_port = || ours.iter().find(|own| own.port == listener.port);
    let only = || ours.first().filter(|_| ours.len() == 1);
    Some(named.or_else(at_port).or_else(only)?.port)
}

/// Whether calls to `host` match this host or wildcard; whatever a wildcard matches is below its domain.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
        None => pattern == host,
    }
}
