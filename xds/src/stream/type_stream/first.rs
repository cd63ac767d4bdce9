//! The first answer of this type, and waiting for those of others (R69).

use std::time::Instant;

use super::TypeStream;
use crate::resource_set::{Position, View};
use crate::stream::first_answers::{FirstAnswer, Gate};
use crate::stream::required::Key;

impl TypeStream {
    /// The first request. A client that has something of this type already need not wait for it.
    pub(super) fn begin(&mut self, has_some: bool, view: &View<'_>) {
        self.first_answer.until = Some(view.position());
        if has_some {
            self.gate = Gate::Open;
        }
    }

    pub(in crate::stream) fn note_progress(&mut self, now: Instant) {
        self.answered_at.set_time(now);
    }

    pub(in crate::stream) fn answered_at(&self) -> Option<Instant> {
        self.answered_at.at()
    }

    /// Since when something has waited for the first answers of other types.
    pub(in crate::stream) fn closed_since(&mut self, now: Instant) -> Option<Instant> {
        let has_work = self.has_work();
        match &mut self.gate {
            Gate::Closed(since) if has_work => Some(*since.get_or_insert(now)),
            Gate::Open | Gate::Closed(_) => None,
        }
    }

    pub(in crate::stream) fn gate_since(&self) -> Option<Instant> {
        self.gate.since()
    }

    pub(in crate::stream) fn open_gate(&mut self) {
        self.gate = Gate::Open;
    }

    pub(in crate::stream) fn first_answer(&self) -> &FirstAnswer {
        &self.first_answer
    }

    pub(in crate::stream) fn note_first_answer(&mut self, is_complete: bool) {
        self.first_answer.is_complete |= is_complete;
    }

    /// Whether the first answer is not sent, or not answered.
    pub(in crate::stream) fn sends_first_answer(&self) -> bool {
        let until = self.first_answer.until.unwrap_or(Position::MAX);
        let requested = self.owes_answer() || !self.asked.is_empty() || !self.missing.is_empty();
        let changed = self.has_to_fill(until) || self.suspects.len() > 0;
        self.in_flight.is_some() || requested || changed
    }

    /// What something waits for.
    pub(in crate::stream) fn required(&self) -> impl Iterator<Item = &Key> {
        self.waiting.required()
    }
}
