//! Types that wait for the first answers of others (R69).

use std::time::{Duration, Instant};

use super::required::Key;
use super::{Stream, TypeStream};
use crate::resource_set::{Position, View};
use crate::{TypeRules, TypeUrl};

/// Whether a type waits for the first answers of others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    Open,
    /// Since then, if something waits.
    Closed(Option<Instant>),
}

/// The longest that a gate is closed.
const AT_MOST: Duration = Duration::from_secs(60);

impl Gate {
    pub(super) fn new(rules: &TypeRules) -> Self {
        if rules.after_first_answers.is_empty() { Self::Open } else { Self::Closed(None) }
    }

    pub(super) fn is_closed(self) -> bool {
        matches!(self, Self::Closed(_))
    }

    pub(super) fn since(self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::Closed(since) => since,
        }
    }
}

/// The first answer of a type, whatever its number of responses.
#[derive(Debug, Default)]
pub(super) struct FirstAnswer {
    /// What it has to have: everything up to this position.
    pub(super) until: Option<Position>,
    pub(super) is_complete: bool,
}

/// When the last answer came. Requests have no clock, so this is set when the stream is polled.
#[derive(Debug, Default)]
pub(super) struct Answered {
    is_new: bool,
    at: Option<Instant>,
}

impl Answered {
    pub(super) fn note(&mut self) {
        self.is_new = true;
    }

    pub(super) fn set_time(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_new) {
            self.at = Some(now);
        }
    }

    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}

impl Stream {
    pub(super) fn note_progress(&mut self, now: Instant) {
        self.types.iter_mut().for_each(|of_type| of_type.note_progress(now));
    }

    /// Lets types go that have waited for all that they have to.
    pub(super) fn open_gates(&mut self, view: &View<'_>, now: Instant) {
        for index in 0..self.types.len() {
            let Some(of_type) = self.types.get_mut(index) else { continue };
            let Some(since) = of_type.closed_since(now) else { continue };
            let others = of_type.rules().after_first_answers.clone();
            let owes = others.iter().any(|other| self.owes_first_answer(other, view, since, now));
            if let Some(of_type) = self.types.get_mut(index)
                && (!owes || now - since >= AT_MOST)
            {
                of_type.open_gate();
            }
        }
    }

    fn owes_first_answer(
        &mut self,
        type_url: &TypeUrl,
        view: &View<'_>,
        since: Instant,
        now: Instant,
    ) -> bool {
        let Some(of_type) = self.types.iter().find(|t| t.rules().type_url == *type_url) else {
            return false;
        };
        if of_type.first_answer().is_complete {
            return false;
        }
        if !of_type.has_begun() {
            return view.has_any(type_url) && now - since < self.barrier;
        }
        let last = of_type.answered_at().map_or(since, |at| at.max(since));
        let waits = now - last < self.barrier && self.may_come(of_type, view);
        let owes = of_type.sends_first_answer() || waits;
        let mut of_type = self.types.iter_mut().filter(|t| t.rules().type_url == *type_url);
        of_type.by_ref().for_each(|of_type| of_type.note_first_answer(!owes));
        owes
    }

    /// Whether something of a type waits for a required resource that the client has not rejected.
    fn may_come(&self, of_type: &TypeStream, view: &View<'_>) -> bool {
        let is_refused = |(type_url, name): &Key| {
            let of_required = self.types.iter().find(|t| t.rules().type_url == *type_url);
            let required = view.get(type_url, name);
            of_required.zip(required).is_some_and(|(t, required)| t.is_refused(required))
        };
        !of_type.required().all(is_refused)
    }

    /// When a gate may open if nothing happens.
    pub(super) fn gate_deadlines(&self) -> impl Iterator<Item = Instant> {
        let since = self.types.iter().filter_map(TypeStream::gate_since).min();
        let answers = self.types.iter().filter_map(TypeStream::answered_at);
        let answers = answers.filter(move |_| since.is_some()).chain(since);
        let barriers = answers.filter_map(|at| at.checked_add(self.barrier));
        barriers.chain(since.and_then(|since| since.checked_add(AT_MOST)))
    }
}
