//! When what changed may go out (R84).

use std::time::Instant;

use crate::Debounce;

/// The pace of one stream. None: the client sets it by answering.
#[derive(Debug)]
pub(super) struct Pace(Option<Box<Debounced>>);

#[derive(Debug)]
struct Debounced {
    rules: Debounce,
    /// Something changed that was not looked at with a clock yet.
    changed: bool,
    last_change: Option<Instant>,
    /// The first change that waits.
    waits_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(debounce: Option<Debounce>) -> Self {
        Self(debounce.map(|rules| {
            Box::new(Debounced { rules, changed: false, last_change: None, waits_since: None })
        }))
    }

    /// Something changed that the client wants.
    pub(super) fn changed(&mut self) {
        self.0.iter_mut().for_each(|debounced| debounced.changed = true);
    }

    /// Notes what changed, with the clock.
    pub(super) fn note(&mut self, now: Instant) {
        let Some(debounced) = self.0.as_mut().filter(|debounced| debounced.changed) else { return };
        debounced.changed = false;
        if debounced.is_busy(now) {
            debounced.waits_since.get_or_insert(now);
        }
        debounced.last_change = Some(now);
    }

    /// Whether what changed has to wait.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|until| now < until)
    }

    /// Nothing waits any more.
    pub(super) fn release(&mut self) {
        self.0.iter_mut().for_each(|debounced| debounced.waits_since = None);
    }

    /// Until when something waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|debounced| debounced.deadline())
    }
}

impl Debounced {
    /// Until nothing has changed for a while, or something has for too long.
    fn deadline(&self) -> Option<Instant> {
        let (since, last) = (self.waits_since?, self.last_change?);
        let quiet = last.checked_add(self.rules.quiet);
        quiet.into_iter().chain(since.checked_add(self.rules.max)).min()
    }

    /// The first change after a quiet time does not wait.
    fn is_busy(&self, now: Instant) -> bool {
        let last = self.last_change;
        self.waits_since.is_some() || last.is_some_and(|last| now - last < self.rules.quiet)
    }
}
