//! What goes into the next response.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Content, TypeStream};
use crate::stream::Variant;
use crate::world::View;
use crate::{Batching, Resource};

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
            asked.into_iter().partition(|name| view.get(type_url, name).is_some());
        let silent = self.rules.never_remove || self.variant == Variant::StateOfTheWorld;
        // Of a type that is sent one by one, a refusal must have one possible cause.
        let missing_first =
            self.rules.batching == Batching::Single && !missing.is_empty() && !silent;
        let upserts = if missing_first { Vec::new() } else { self.pick(&mut due, view) };
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
            let mut due = std::mem::take(&mut self.upserts);
            upserts = self.pick(&mut due, view);
            self.upserts = due;
            self.suspects_turn = true;
        }
        if upserts.is_empty() {
            upserts = self.take_suspects(view);
        }
        let content = Content { upserts, ..Content::default() };
        if std::mem::take(&mut self.answer_due) { Some(content) } else { content.into_option() }
    }

    fn take_suspects(&mut self, view: &View<'_>) -> Vec<(Resource, u32)> {
        while let Some(group) = self.suspects.next() {
            let sendable = group.iter().filter_map(|name| self.sendable(name, view));
            let upserts: Vec<_> =
                sendable.map(|r| (r.clone(), self.suspects.attempt(r.name()))).collect();
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
        self.removals.retain(|name, since| {
            if view.get(type_url, name).is_some() {
                return false;
            }
            let is_due = now - *since.get_or_insert(now) >= wait;
            if is_due {
                due.push(name.clone());
            }
            !is_due
        });
        due
    }

    /// Takes out of `due` what one response may hold: everything, or everything proven, or one.
    /// Names that have nothing to send (refused unchanged, or gone) are taken out and dropped.
    fn pick(&self, due: &mut BTreeSet<Arc<str>>, view: &View<'_>) -> Vec<(Resource, u32)> {
        let picked =
            |name: &str, resource: &Resource| (resource.clone(), self.suspects.attempt(name));
        if self.rules.batching != Batching::Single {
            let due = std::mem::take(due);
            let sendable = due.iter().filter_map(|name| Some((name, self.sendable(name, view)?)));
            return sendable.map(|(name, resource)| picked(name, resource)).collect();
        }
        let (mut out, mut later) = (Vec::new(), BTreeSet::new());
        while let Some(name) = due.pop_first() {
            let Some(resource) = self.sendable(&name, view) else { continue };
            let alone = !view.is_proven(&self.rules.type_url, resource);
            if alone && !out.is_empty() {
                later.insert(name);
                continue;
            }
            out.push(picked(&name, resource));
            if alone {
                break;
            }
        }
        due.append(&mut later);
        out
    }

    fn sendable<'v>(&self, name: &str, view: &'v View<'_>) -> Option<&'v Resource> {
        let resource = view.get(&self.rules.type_url, name)?;
        let refused = self.refused.get(name).is_some_and(|version| version == resource.version());
        (!refused).then_some(resource)
    }
}
