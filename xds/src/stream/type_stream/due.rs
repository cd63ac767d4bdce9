//! Selects the content of the next response.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Content, TypeStream};
use crate::resource_set::View;
use crate::stream::Variant;
use crate::{Batching, Resource, TypeRules};

impl TypeStream {
    /// Takes what was requested by name, with the names that do not exist (R13, R14).
    pub(in crate::stream) fn take_asked(&mut self, view: &View<'_>) -> Option<Content> {
        if self.in_flight.is_some() || self.asked.is_empty() {
            return None;
        }
        if self.sends_full_state() {
            return self.take_full_state(view);
        }
        let type_url = &self.rules.type_url;
        let asked = std::mem::take(&mut self.asked);
        let (mut due, missing): (BTreeSet<_>, BTreeSet<_>) =
            asked.into_iter().partition(|name| view.exists(type_url, name));
        let silent = self.rules.never_remove || self.variant == Variant::StateOfTheWorld;
        // For a type that is sent one by one, a rejection must have a single possible cause.
        let missing_first =
            self.rules.batching == Batching::Single && !missing.is_empty() && !silent;
        let upserts =
            if missing_first { Vec::new() } else { self.pick(&mut due, None, view).upserts };
        self.asked = due;
        for (resource, _) in &upserts {
            self.upserts.remove(resource.name());
            self.suspects.release(resource.name());
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

    /// Takes what is new or changed, alternating with the groups that are searched for a wrong
    /// resource.
    pub(in crate::stream) fn take_upserts(&mut self, view: &View<'_>) -> Option<Content> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.sends_full_state() {
            return self.take_full_state(view);
        }
        let suspects_first = std::mem::take(&mut self.suspects_turn);
        let mut upserts = if suspects_first { self.take_suspects(view) } else { Vec::new() };
        if upserts.is_empty() {
            let (mut due, from) = (std::mem::take(&mut self.upserts), self.resume_at.take());
            let goes_on = from.is_some() && !self.answer_due;
            let mut picked = self.pick(&mut due, from, view);
            // What the round would have continued with is gone, so the next round begins here:
            // nothing else would wake the stream for it.
            if goes_on && picked.upserts.is_empty() {
                picked = self.pick(&mut due, None, view);
            }
            Picked { upserts, resume_at: self.resume_at } = picked;
            self.upserts = due;
            self.suspects_turn = true;
        }
        if upserts.is_empty() {
            upserts = self.take_suspects(view);
        }
        self.filling &= self.resume_at.is_some();
        let content = Content { upserts, more: self.filling, ..Content::default() };
        // A client that was told that more follows must be told when nothing does, if need be by an
        // empty response.
        let is_due = std::mem::replace(&mut self.answer_due, self.filling);
        if is_due { Some(content) } else { content.into_option() }
    }

    fn take_suspects(&mut self, view: &View<'_>) -> Vec<(Resource, u32)> {
        while let Some(group) = self.suspects.next() {
            let sendable = group.iter().filter_map(|name| self.sendable(name, view));
            let upserts: Vec<_> = sendable.map(|r| self.picked(r)).collect();
            for name in &group {
                self.upserts.remove(name);
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

    /// Takes from `due` what fits one response: everything that fits, or everything proven, or one.
    /// It continues at `from`, and what is added before that position waits for the next round, so
    /// that a round ends whatever changes meanwhile (R93). Names without anything to send (rejected
    /// and unchanged, or gone) are dropped.
    fn pick(
        &self,
        due: &mut BTreeSet<Arc<str>>,
        from: Option<Arc<str>>,
        view: &View<'_>,
    ) -> Picked {
        if self.rules.batching == Batching::Single {
            return Picked { upserts: self.pick_proven(due, view), resume_at: None };
        }
        let mut round = match from {
            Some(from) => due.split_off(&from),
            None => std::mem::take(due),
        };
        let mut room = Room::of(&self.rules);
        let mut upserts = Vec::with_capacity(round.len().min(TOGETHER));
        let mut resume_at = None;
        for name in &round {
            let Some(resource) = self.sendable(name, view) else { continue };
            if !room.fits(resource.size()) {
                resume_at = Some(name.clone());
                break;
            }
            upserts.push(self.picked(resource));
        }
        if let Some(name) = &resume_at {
            due.append(&mut round.split_off(name));
        }
        Picked { upserts, resume_at }
    }

    fn pick_proven(&self, due: &mut BTreeSet<Arc<str>>, view: &View<'_>) -> Vec<(Resource, u32)> {
        let (mut out, mut later) = (Vec::new(), BTreeSet::new());
        let mut room = Room::of(&self.rules);
        while let Some(name) = due.pop_first() {
            let Some(resource) = self.sendable(&name, view) else { continue };
            let alone = !view.is_proven(&self.rules.type_url, resource);
            if alone && !out.is_empty() {
                later.insert(name);
                continue;
            }
            if !room.fits(resource.size()) {
                later.insert(name);
                break;
            }
            out.push(self.picked(resource));
            if alone {
                break;
            }
        }
        due.append(&mut later);
        out
    }

    fn picked(&self, resource: &Resource) -> (Resource, u32) {
        let attempt = self.suspects.attempt(resource.name());
        (resource.clone(), self.attempt.saturating_add(attempt))
    }

    fn sendable<'v>(&self, name: &str, view: &'v View<'_>) -> Option<&'v Resource> {
        let resource = view.get(&self.rules.type_url, name)?;
        let refused = self.refused.get(name).is_some_and(|version| version == resource.version());
        (!refused).then_some(resource)
    }
}

/// The selected content, and where the next response continues if this one is full.
struct Picked {
    upserts: Vec<(Resource, u32)>,
    resume_at: Option<Arc<str>>,
}

/// The most entries to reserve for a response before it is known what fits.
const TOGETHER: usize = 1 << 16;

/// The remaining space of a response. One resource always fits.
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
