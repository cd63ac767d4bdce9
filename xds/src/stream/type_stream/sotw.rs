//! The state-of-the-world protocol, as far as it differs: a request lists all that is wanted, and
//! nothing can be said to be gone. Of some types a response holds everything, so that what is missing
//! is gone; of the others it holds what changed, and what is gone is never told (R50).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Content, TypeStream};
use crate::Resource;
use crate::resource_set::View;
use crate::stream::Variant;
use crate::wire::DiscoveryRequest;

impl TypeStream {
    pub(super) fn sends_full_state(&self) -> bool {
        self.variant == Variant::StateOfTheWorld && self.rules.full_state
    }

    /// Whether the request speaks of the last response. One that does not was sent before the client
    /// knew of it; the client sends another, which counts instead (R51).
    pub(in crate::stream) fn is_stale(&self, request: &DiscoveryRequest) -> bool {
        self.last_nonce.is_some_and(|last| !last.is(&request.response_nonce))
    }

    /// Takes the list of names. What the client held before the stream is sent again, equal or not:
    /// it may wait for it (R54).
    pub(in crate::stream) fn subscribe_list(
        &mut self,
        request: &DiscoveryRequest,
        view: &View<'_>,
    ) {
        let names = &request.resource_names;
        let changed = self.subscription.replace(names, self.rules.legacy_wildcard);
        if changed.became_wildcard {
            self.scan_due = true;
            self.answer_due = true;
        }
        self.follow(changed, view);
    }

    /// Everything that is wanted, in one response.
    pub(super) fn take_full_state(&mut self, view: &View<'_>) -> Option<Content> {
        if self.in_flight.is_some() || !self.full_state_is_due() {
            return None;
        }
        Some(self.full_state(view))
    }

    /// Something is new, and comes with everything else.
    pub(super) fn full_state_is_due(&self) -> bool {
        let due = !self.upserts.is_empty() || !self.asked.is_empty() || self.answer_due;
        self.sends_full_state() && due
    }

    pub(super) fn full_state(&mut self, view: &View<'_>) -> Content {
        let mut due: BTreeSet<Arc<str>> = std::mem::take(&mut self.upserts);
        due.append(&mut self.asked);
        self.answer_due = false;
        let type_url = &self.rules.type_url;
        let mut content = Content::default();
        let mut add = |resource: &Resource| {
            if due.contains(resource.name()) {
                content.upserts.push((resource.clone(), 0));
            } else {
                content.unchanged.push(resource.clone());
            }
        };
        if self.subscription.is_open_ended() {
            let all = view.each(type_url);
            all.filter(|resource| self.subscription.wants(resource.name())).for_each(&mut add);
        } else {
            let named = self.subscription.list().filter_map(|name| view.get(type_url, name));
            named.for_each(&mut add);
        }
        content.unchanged.extend(self.leaving.values().cloned());
        content
    }

    /// Removals that have waited: a full response without them, or nothing.
    pub(super) fn take_silent_removals(
        &mut self,
        view: &View<'_>,
        now: Instant,
        wait: Duration,
    ) -> Option<Content> {
        if !self.rules.full_state {
            self.removals.clear();
            return None;
        }
        let gone = self.due_removals(view, now, wait);
        if gone.is_empty() {
            return None;
        }
        for name in &gone {
            self.leaving.remove(name);
        }
        Some(self.full_state(view))
    }
}
