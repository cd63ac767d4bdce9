//! Resources with a TTL at the client, and when it needs a heartbeat (R75).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Variant;
use crate::Resource;

/// Acknowledged resources of one type with a TTL. Others cost nothing here.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    enabled: bool,
    held: BTreeMap<Arc<str>, Held>,
    /// When to check: not later than the first heartbeat is due.
    next: Option<Instant>,
    /// For some it is unknown when the client last heard of them.
    overdue: bool,
}

#[derive(Debug)]
struct Held {
    /// The client's version, which may be older than the resource set's.
    resource: Resource,
    interval: Duration,
    /// When it was last sent; `None` if on another stream.
    since: Option<Instant>,
}

impl Held {
    /// Whether this many quarters of the TTL have passed.
    fn is_due(&self, quarters: u32, now: Instant) -> bool {
        self.since.is_none_or(|since| now - since >= self.interval / 2 * quarters)
    }
}

/// A TTL of zero would cause heartbeats without end.
const SHORTEST: Duration = Duration::from_millis(10);

impl Heartbeats {
    pub(super) fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Records that the client has this one, which was sent then.
    pub(super) fn hold(&mut self, resource: &Resource, since: Option<Instant>) {
        let Some(ttl) = resource.ttl().filter(|_| self.enabled) else {
            return self.forget(resource.name());
        };
        let interval = (ttl / 2).max(SHORTEST);
        let due = since.and_then(|since| since.checked_add(interval));
        self.next = self.next.into_iter().chain(due).min();
        self.overdue |= since.is_none();
        let held = Held { resource: resource.clone(), interval, since };
        self.held.insert(resource.name().clone(), held);
    }

    /// Records that the client does not have it, or rejected it.
    pub(super) fn forget(&mut self, name: &str) {
        if !self.held.is_empty() {
            self.held.remove(name);
        }
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.held.retain(|name, _| wanted(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| !self.is_empty())
    }

    /// Takes what is due, and what will be soon, so that there are few responses. Half of the TTL
    /// is reserved for the transmission and a slow answer.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Resource> {
        if !self.overdue && self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        self.overdue = false;
        let mut due = Vec::new();
        if self.held.values().any(|held| held.is_due(2, now)) {
            for held in self.held.values_mut().filter(|held| held.is_due(1, now)) {
                held.since = Some(now);
                due.push(held.resource.clone());
            }
        }
        let next = self.held.values().filter_map(|held| held.since?.checked_add(held.interval));
        self.next = next.min();
        due
    }
}

/// Whether a client with these features can be sent TTLs in this protocol. Each feature has an old
/// and a new name.
pub(super) fn knows_ttl(variant: Variant, features: &[String]) -> bool {
    let mut names = features.iter().filter_map(|feature| {
        feature.strip_prefix("xds.config.").or_else(|| feature.strip_prefix("envoy.config."))
    });
    let wrapped = |name| matches!(name, "resource-in-sotw" | "supports-resource-in-sotw");
    let lists_ttl = names.clone().any(|name| name == "supports-resource-ttl");
    lists_ttl && (variant == Variant::Delta || names.any(wrapped))
}
