//! What goes into the next response.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Content, TypeStream};
use crate::resource_set::View;
use crate::stream::Variant;
use crate::{Batching, Resource, TypeRules};

impl TypeStream {
    /// What was asked for by name, with the names that do not exist (R13, R14).
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
        // Of a type that is sent one by one, a refusal must have one possible cause.
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

    /// What is new or changed; and the groups that look for a culprit, in turns with it.
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
            // What the round would have gone on with is gone, so the next round begins here: nothing
            // else would wake the stream for it.
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
        // Who was told that more follows is told when nothing does, be it with an empty response.
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

    /// Removals that nothing but time held back, and that have waited.
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

    /// Takes out of `due` what one response may hold: everything that has room in it, or everything
    /// proven, or one. It goes on at `from`, and what came up behind that waits for the next round, so
    /// that a round ends whatever changes meanwhile (R93). Names that have nothing to send (refused
    /// unchanged, or gone) are taken out and dropped.
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

/// What goes into a response, and where the next one goes on, if this one is full.
struct Picked {
    upserts: Vec<(Resource, u32)>,
    resume_at: Option<Arc<str>>,
}

/// More places are not made ready for a response before it is known what fits.
const TOGETHER: usize = 1 << 16;

/// How much more a response may hold. One thing always fits.
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
