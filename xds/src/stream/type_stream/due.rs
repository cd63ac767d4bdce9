//! Selects the content of the next response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pick::Source;
use super::{Content, TypeStream};
use crate::resource_set::{Position, View};
use crate::stream::Variant;
use crate::stream::required::Peers;
use crate::{Batching, Resource, TypeRules};

impl TypeStream {
    /// Takes what was requested by name, with the names that do not exist (R13, R14).
    pub(in crate::stream) fn take_asked(
        &mut self,
        view: &View<'_>,
        peers: Peers<'_>,
    ) -> Option<Content> {
        let is_asked = !self.asked.is_empty() || !self.missing.is_empty();
        if self.in_flight.is_some() || !is_asked || self.gate.is_closed() {
            return None;
        }
        if self.sends_full_state() {
            return self.take_full_state(view);
        }
        let (type_url, tells_proven) = (&self.rules.type_url, self.rules.limits().tells_proven);
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|name| !view.exists(type_url, name));
        let silent = self.rules.never_remove || self.variant == Variant::StateOfTheWorld;
        // For a type that is sent in small batches, a rejection must have few possible causes.
        let missing_first = tells_proven && !missing.is_empty() && !silent;
        let upserts =
            if missing_first { Vec::new() } else { self.pick(Source::Asked, None, peers, view) };
        missing.append(&mut self.missing); // gone meanwhile
        for (resource, _) in &upserts {
            self.sent_early(resource.name(), view);
        }
        for name in &missing {
            self.removals.remove(name);
        }
        let mut content = Content { upserts, ..Content::default() };
        if !silent {
            let missing = missing.into_iter().collect();
            if self.rules.missing_is_empty {
                content.absent = missing;
            } else {
                content.removals = missing;
            }
        }
        content.into_option()
    }

    /// Records that one is sent for another reason than that it changed.
    fn sent_early(&mut self, name: &Arc<str>, view: &View<'_>) {
        self.upserts.remove(name);
        self.suspects.release(name);
        let found = view.find(&self.rules.type_url, name);
        if let (Some(fill), Some(found)) = (&mut self.fill, found) {
            fill.sent(name, found.changed_at);
        }
    }

    /// Takes what is new or changed, alternating with the groups that are searched for a wrong
    /// resource. `up_to` is the last change that may go, if not all may; it does not concern full
    /// responses.
    pub(in crate::stream) fn take_upserts(
        &mut self,
        view: &View<'_>,
        peers: Peers<'_>,
        up_to: Option<Position>,
    ) -> Option<Content> {
        if self.in_flight.is_some() || self.gate.is_closed() {
            return None;
        }
        if self.sends_full_state() {
            return self.take_full_state(view);
        }
        let suspects_first = std::mem::take(&mut self.suspects_turn);
        let mut upserts = Vec::new();
        if suspects_first {
            upserts = self.take_suspects(view, peers);
        }
        if upserts.is_empty() {
            upserts = self.pick(Source::Upserts, up_to, peers, view);
            self.suspects_turn = true;
        }
        if upserts.is_empty() {
            upserts = self.take_suspects(view, peers);
        }
        if upserts.is_empty() && self.looks_again {
            return None;
        }
        self.filling = self.filling.filter(|until| self.has_to_fill(*until));
        let more = self.filling.is_some() && self.rules.batching != Batching::Single;
        let removals = self.take_replaced(&upserts);
        let content = Content { upserts, removals, more, ..Content::default() };
        // A client that was told that more follows must be told when nothing does, if need be by an
        // empty response.
        let is_due = std::mem::replace(&mut self.answer_due, more);
        if is_due { Some(content) } else { content.into_option() }
    }

    fn take_suspects(&mut self, view: &View<'_>, peers: Peers<'_>) -> Vec<(Resource, u32)> {
        while let Some(group) = self.suspects.next() {
            let mut upserts = Vec::new();
            for name in &group {
                let Some(resource) = view.get(&self.rules.type_url, name) else { continue };
                let required = self.blocker(resource, &upserts, peers, view);
                self.sent_early(name, view);
                if let Some(required) = required {
                    self.waiting.add(name.clone(), required);
                } else if !self.is_refused(resource) {
                    upserts.push(self.picked(resource));
                }
            }
            if !upserts.is_empty() {
                return upserts;
            }
        }
        Vec::new()
    }

    /// Takes removals that only time delayed, and that have waited long enough.
    pub(in crate::stream) fn take_removals(
        &mut self,
        view: &View<'_>,
        now: Instant,
        wait: Duration,
    ) -> Option<Content> {
        if self.rules.never_remove {
            self.removals.clear();
        }
        if self.in_flight.is_some() {
            return None;
        }
        if self.variant == Variant::StateOfTheWorld {
            return self.take_silent_removals(view, now, wait);
        }
        self.keep_former(view);
        let removals = self.due_removals(view, now, wait);
        for name in &removals {
            self.refused.remove(name);
            self.suspects.clear(name);
        }
        Content { removals, ..Content::default() }.into_option()
    }

    pub(super) fn due_removals(
        &mut self,
        view: &View<'_>,
        now: Instant,
        wait: Duration,
    ) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        let type_url = &self.rules.type_url;
        let is_full = self.sends_full_state();
        let mut room = Room::of(&self.rules);
        self.removals.retain(|name, since| {
            if view.exists(type_url, name) {
                return false;
            }
            let is_due = now - *since.get_or_insert(now) >= wait;
            let is_due = is_due && (is_full || room.fits(name.len()));
            if is_due {
                due.push(name.clone());
            }
            !is_due
        });
        due
    }
}

/// The remaining space of a response for removals. One always fits.
struct Room {
    left: usize,
    is_empty: bool,
}

impl Room {
    fn of(rules: &TypeRules) -> Self {
        Self { left: rules.max_response_bytes, is_empty: true }
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.left;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.is_empty = false;
        }
        fits
    }
}
