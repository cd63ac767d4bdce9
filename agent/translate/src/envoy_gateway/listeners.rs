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
    /// The protocols that calls may upgrade to, as far as their routes inside allow it.
    pub upgrades: BTreeSet<String>,
}

/// No more listeners are made ours, and with the inner ones, of which there is one for each port of the gateway, no more than
/// [`MAX_LISTENERS`]: each is 65 kB of the policy, and an object must stay below 1.5 MB. The tables of the others lead to us.
const MAX_DEDICATED: usize = 10;
const MAX_LISTENERS: usize = 20;

/// A listener of Envoy Gateway's Envoys that serves us alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedicated {
    /// The Listener's name.
    pub listener: String,
    /// The port of our gateway.
    pub port: u16,
}

/// The listeners of a Gateway that serves the gateway alone. Those of one port are one Listener with the name of the first,
/// and lead where that one leads; without one of ours they are left alone.
pub fn dedicated(
    (namespace, name): (&str, &str),
    listeners: &[Listener],
    gateway: &ir::Gateway,
) -> Vec<Dedicated> {
    let mut ports = BTreeSet::new();
    let first = listeners.iter().filter(|listener| ports.insert(listener.port));
    let leads = |listener: &Listener| {
        let port = port_behind(listener, &gateway.listeners)?;
        Some(Dedicated { listener: format!("{namespace}/{name}/{}", listener.name), port })
    };
    let most = MAX_DEDICATED.min(MAX_LISTENERS.saturating_sub(gateway.listeners.len()));
    first.filter_map(leads).take(most).collect()
}

/// Whether calls for the host come to one of these listeners: over TLS those that its certificate's name lets in.
pub fn admits(listeners: &[Listener], gateway: &ir::Gateway, (port, host): (u16, &str)) -> bool {
    let first = |of: &Listener| listeners.iter().find(|it| it.port == of.port);
    let leads = |listener: &&Listener| {
        first(listener).and_then(|it| port_behind(it, &gateway.listeners)) == Some(port)
    };
    listeners.iter().filter(leads).any(|listener| match listener.protocol {
        Protocol::Http => true,
        Protocol::Https => listener.hostname.as_ref().is_none_or(|of| covers(of, host)),
    })
}

/// The tables of the Gateway that lead to the gateway, each with those of `hosts` (by our port) that its
/// listener admits. Listeners that no listener of ours belongs to are left alone: one of ours belongs to the
/// one of its name, else of its port, and an only one to all.
pub fn lead(
    (namespace, name): (&str, &str),
    listeners: &[Listener],
    gateway: &ir::Gateway,
    hosts: &BTreeMap<u16, BTreeSet<String>>,
    upgrades: &BTreeSet<String>,
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
            upgrades: upgrades.clone(),
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
