//! When changes may be sent (R84).

use std::time::Instant;

use crate::Debounce;

/// The pace of one stream; `None` if the client sets it by answering.
#[derive(Debug)]
pub(super) struct Pace(Option<Box<Debounced>>);

#[derive(Debug)]
struct Debounced {
    rules: Debounce,
    /// A change that was not yet seen with a clock.
    changed: bool,
    last_change: Option<Instant>,
    /// The time of the first change that waits.
    waits_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(debounce: Option<Debounce>) -> Self {
        Self(debounce.map(|rules| {
            Box::new(Debounced { rules, changed: false, last_change: None, waits_since: None })
        }))
    }

    /// Records a change that the client subscribes to.
    pub(super) fn changed(&mut self) {
        self.0.iter_mut().for_each(|debounced| debounced.changed = true);
    }

    /// Records the time of the change.
    pub(super) fn note(&mut self, now: Instant) {
        let Some(debounced) = self.0.as_mut().filter(|debounced| debounced.changed) else { return };
        debounced.changed = false;
        if debounced.is_busy(now) {
            debounced.waits_since.get_or_insert(now);
        }
        debounced.last_change = Some(now);
    }

    /// Whether changes have to wait.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|until| now < until)
    }

    /// Records that nothing waits any more.
    pub(super) fn release(&mut self) {
        self.0.iter_mut().for_each(|debounced| debounced.waits_since = None);
    }

    /// Until when changes wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|debounced| debounced.deadline())
    }
}

impl Debounced {
    /// Until nothing has changed for a while, or something has waited for too long.
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
