//! The differences of the state-of-the-world protocol: a request lists all subscriptions, and
//! removals cannot be expressed. For some types a response has everything, so that missing
//! resources are removed; for the others it has the changes, and removals are never sent (R50).

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

    /// Whether the request is about an earlier response. Such a request was sent before the client
    /// knew of the last one; the client sends another, which counts instead (R51).
    pub(in crate::stream) fn is_stale(&self, request: &DiscoveryRequest) -> bool {
        self.last_nonce.is_some_and(|last| !last.is(&request.response_nonce))
    }

    /// Handles the list of names. What the client had before the stream is sent again even if
    /// equal, because the client may wait for it (R54).
    pub(in crate::stream) fn subscribe_list(
        &mut self,
        request: &DiscoveryRequest,
        view: &View<'_>,
    ) {
        let names = &request.resource_names;
        if !self.subscription.started() {
            self.begin(!request.version_info.is_empty(), view);
        }
        let changed = self.subscription.replace(names, self.rules.legacy_wildcard);
        if changed.became_wildcard {
            self.scan_due = true;
            self.answer_due = true;
        }
        self.follow(changed, view);
    }

    /// Takes everything that is subscribed, in one response.
    pub(super) fn take_full_state(&mut self, view: &View<'_>) -> Option<Content> {
        if self.in_flight.is_some() || !self.full_state_is_due() {
            return None;
        }
        Some(self.full_state(view))
    }

    /// Whether anything is new, so that everything must be sent.
    pub(super) fn full_state_is_due(&self) -> bool {
        let asked = !self.asked.is_empty() || !self.missing.is_empty() || self.answer_due;
        let due = asked || !self.upserts.is_empty() || self.fill.is_some();
        self.sends_full_state() && due
    }

    pub(super) fn full_state(&mut self, view: &View<'_>) -> Content {
        self.answer_due = false;
        let type_url = &self.rules.type_url;
        let mut content = Content::default();
        let mut add = |resource: &Resource| {
            let found = view.find(type_url, resource.name());
            if found.is_some_and(|found| self.is_due(resource.name(), found.changed_at)) {
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
        (self.asked, self.upserts) = Default::default();
        self.missing.clear();
        (self.fill, self.filling) = (None, None);
        content
    }

    /// Takes removals that have waited: a full response without them, or nothing.
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
