//! What to send now, in which order: requested names, then changes phase by phase, then removals.

use std::time::{Duration, Instant};

use super::awaited::children;
use super::required::Peers;
use super::{Response, Stream, TypeStream};
use crate::resource_set::{Position, View};

/// Changes of later phases that wait for an incomplete one.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldUp {
    pub(super) since: Instant,
    /// They came before this position, or at it.
    changes: Position,
}

impl Stream {
    pub(super) fn send(&mut self, view: &View<'_>, now: Instant) -> Vec<Response> {
        let mut out = Vec::new();
        self.send_heartbeats(view, now, &mut out);
        self.pace.note(now);
        self.note_progress(now);
        if self.has_work() {
            self.open_gates(view, now);
            self.send_asked(view, now, &mut out);
            if self.changes_may_go(now, &out) && self.send_upserts(view, now, &mut out) {
                self.send_removals(view, now, &mut out);
            }
        } else {
            self.held_up = None;
            self.pace.release();
        }
        out
    }

    /// Heartbeats are no changes, so they neither wait for phases nor delay them (R75).
    fn send_heartbeats(&mut self, view: &View<'_>, now: Instant, out: &mut Vec<Response>) {
        for of_type in &mut self.types {
            if let Some(content) = of_type.take_heartbeats(view, now) {
                out.push(of_type.send(content, view, self.nonces.next(), now));
            }
        }
    }

    /// Requested names do not wait for phases (R13, R71).
    fn send_asked(&mut self, view: &View<'_>, now: Instant, out: &mut Vec<Response>) {
        for index in 0..self.types.len() {
            let Some((of_type, peers)) = Peers::of(&mut self.types, index) else { continue };
            of_type.catch_up(view);
            let Some(content) = of_type.take_asked(view, peers) else { continue };
            out.push(of_type.send(content, view, self.nonces.next(), now));
            self.follow_with_children(view, now, out.last(), index);
        }
    }

    /// Whether changes may be sent, or wait for more of them (R84). They do not wait if the client
    /// waits for a first answer or for children of what it requested, nor in the middle of the
    /// phases. They are sent in order, so all of them do.
    fn changes_may_go(&mut self, now: Instant, asked: &[Response]) -> bool {
        let is_waited_for = self.held_up.is_some()
            || self.types.iter().any(TypeStream::owes_answer)
            || asked.iter().any(|response| children(response).next().is_some());
        let may_go = is_waited_for || !self.pace.holds_back(now);
        if may_go {
            self.pace.release();
        }
        may_go
    }

    /// Sends upserts, phase by phase; returns false while a phase is incomplete (R60, R61). If it is
    /// so for too long, later phases get what has waited all that time, and nothing newer: that may
    /// refer to what is on its way.
    fn send_upserts(&mut self, view: &View<'_>, now: Instant, out: &mut Vec<Response>) -> bool {
        let mut up_to = None;
        for index in 0..self.types.len() {
            let Some((of_type, peers)) = Peers::of(&mut self.types, index) else { continue };
            let continues = of_type.continues_first_answer();
            if let Some(content) = of_type.take_upserts(view, peers, up_to) {
                // The barrier is for a client that does not answer, and this one does (R93).
                if continues && let Some(held_up) = &mut self.held_up {
                    held_up.since = now;
                }
                out.push(of_type.send(content, view, self.nonces.next(), now));
                self.follow_with_children(view, now, out.last(), index);
            }
            if up_to.is_none() && self.holds_up_after(index, now) {
                let later = self.types.iter().skip(index + 1).any(TypeStream::has_work)
                    || self.types.iter().any(TypeStream::has_removals);
                let begins = HeldUp { since: now, changes: view.position() };
                self.held_up = later.then(|| *self.held_up.get_or_insert(begins));
                let overdue = |held_up: &HeldUp| now - held_up.since >= self.barrier;
                up_to = self.held_up.filter(overdue).map(|held_up| held_up.changes);
                if up_to.is_none() {
                    return false;
                }
            }
        }
        let begins = HeldUp { since: now, changes: view.position() };
        self.held_up = up_to.map(|_| begins);
        true
    }

    /// At the last type of a phase: whether the phase is incomplete.
    fn holds_up_after(&mut self, index: usize, now: Instant) -> bool {
        let phase_at = |index: usize| self.types.get(index).map(|t| t.rules().phase);
        let Some(phase) = phase_at(index) else { return false };
        if phase_at(index + 1) == Some(phase) {
            return false;
        }
        let mut of_phase = self.types.iter().filter(|t| t.rules().phase == phase);
        of_phase.any(|t| t.holds_up(now, self.barrier)) || self.awaited.holds_up_after(phase, now)
    }

    /// Sends again, or waits for, what the response makes the client subscribe to (R61, R62, R63).
    fn follow_with_children(
        &mut self,
        view: &View<'_>,
        now: Instant,
        parents: Option<&Response>,
        index: usize,
    ) {
        let Some(parents) = parents else { return };
        let phase = self.types.get(index).map_or(0, |t| t.rules().phase);
        for child in children(parents) {
            let of_child = self.types.iter_mut().find(|t| t.rules().type_url == child.0);
            let Some(of_child) = of_child else { continue };
            if of_child.follow_parent(&child.1, view) {
                self.awaited.add(child.clone(), phase, now, self.barrier);
            }
        }
        let named_after =
            |t: &&mut TypeStream| t.rules().named_after.as_ref() == Some(&parents.type_url);
        for of_child in self.types.iter_mut().filter(named_after) {
            for (parent, _) in parents.upserts() {
                of_child.follow_prefix(parent.name(), view);
            }
        }
    }

    /// Sends removals in reverse: first what refers to others, then what is referred to (R60, R64).
    fn send_removals(&mut self, view: &View<'_>, now: Instant, out: &mut Vec<Response>) {
        if !self.types.iter().any(TypeStream::has_removals) {
            return;
        }
        let (lowest, grace, barrier) = (self.lowest, self.grace, self.barrier);
        let phases: Vec<_> =
            self.types.chunk_by_mut(|a, b| a.rules().phase == b.rules().phase).collect();
        for phase in phases.into_iter().rev() {
            for of_type in phase.iter_mut() {
                let is_lowest = Some(of_type.rules().phase) == lowest;
                let wait = if is_lowest { grace } else { Duration::ZERO };
                let content = of_type.take_removals(view, now, wait);
                out.extend(content.map(|c| of_type.send(c, view, self.nonces.next(), now)));
            }
            if phase.iter().any(|t| t.is_waiting(now, barrier)) {
                return;
            }
        }
    }
}
