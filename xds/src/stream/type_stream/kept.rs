//! Resources that the client keeps while it gets heartbeats (R75).

use std::time::Instant;

use super::{Content, TypeStream};
use crate::resource_set::View;
use crate::stream::{SentResource, Variant};

impl TypeStream {
    /// Takes the due heartbeats. They are sent before changes, which delays those by at most one
    /// answer in a quarter of a TTL; after the changes they might never be sent.
    pub(in crate::stream) fn take_heartbeats(
        &mut self,
        view: &View<'_>,
        now: Instant,
    ) -> Option<Content> {
        if self.in_flight.is_some() || self.full_state_is_due() {
            return None;
        }
        let due = self.heartbeats.take(now);
        if due.is_empty() {
            return None;
        }
        let content = if self.sends_full_state() {
            self.full_state(view)
        } else if self.variant == Variant::Delta && !self.rules.missing_is_empty {
            Content { heartbeats: due, ..Content::default() }
        } else {
            // Without content it would say that there is nothing (R70). And clients differ in what
            // a list without contents means: Envoy drops what is not in it.
            Content { unchanged: due, ..Content::default() }
        };
        Some(Content { is_heartbeat: true, ..content })
    }

    /// When to check for heartbeats.
    pub(in crate::stream) fn next_heartbeat(&self) -> Option<Instant> {
        self.heartbeats.deadline()
    }

    pub(in crate::stream) fn has_heartbeats(&self) -> bool {
        !self.heartbeats.is_empty()
    }

    /// Records that the client acknowledged these.
    pub(super) fn keep(&mut self, resources: &[SentResource], since: Instant, view: &View<'_>) {
        if !self.heartbeats.is_enabled() {
            return;
        }
        for resource in resources.iter().filter_map(SentResource::resource) {
            if resource.ttl().is_none() && self.heartbeats.is_empty() {
                continue;
            }
            let name = resource.name();
            let exists = view.get(&self.rules.type_url, name).is_some();
            if exists && self.subscription.wants(name) {
                self.heartbeats.hold(resource, Some(since));
            } else {
                self.heartbeats.forget(name);
            }
        }
    }

    /// Records that the client no longer has them, or not in this version: they are sent with
    /// content, which it may reject.
    pub(super) fn send_whole(&mut self, resources: &[SentResource], view: &View<'_>) {
        for name in resources.iter().map(SentResource::name) {
            self.heartbeats.forget(name);
            if self.subscription.wants(name) {
                self.make_due(name, view);
            }
        }
    }
}
