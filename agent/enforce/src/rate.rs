//! A rate: at most so many calls in any window of its length, exact under concurrency.
//!
//! The calls of the last window are held in a [`Ring`] of bounded size, which is there only while
//! some of them count. A call is counted no earlier than it was, so that none passes that should not.

mod packed;
mod ring;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kept::Kept;
use crate::ledger::Pair;
use ring::Ring;
pub(crate) use ring::{Span, Taken};

const SECOND: i64 = 1_000_000_000;

/// So many calls per window, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    amount: u64,
    span: Span,
}

impl Rate {
    /// An amount of 0 lets nobody pass.
    pub(crate) fn new(amount: u64, window_seconds: u64) -> Self {
        Self { amount, span: Span::of_seconds(window_seconds) }
    }
}

/// How a rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Calls that would pass now.
    pub(crate) remaining: u64,
    /// Nanoseconds until more would; 0 if all would.
    pub(crate) more_in: i64,
}

/// The state of one rate for one holder.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// None: nothing counts.
    ring: Mutex<Option<Box<Ring>>>,
    kept: Kept,
}

impl Count {
    /// Continues where it was kept.
    pub(crate) fn kept((kept, pair): (Kept, Pair), window_seconds: u64) -> Self {
        let ring = packed::unpack(pair, Span::of_seconds(window_seconds)).map(Box::new);
        Self { ring: Mutex::new(ring), kept }
    }

    /// Brings it to where it is kept, also if there was no room before.
    pub(crate) fn keep(&self) {
        let ring = self.ring();
        self.kept.turn().keep_at_last(|| packed::pack(ring.as_deref()));
    }

    /// How it stands, without a call.
    pub(crate) fn look(&self, rate: Rate, now: i64) -> Standing {
        match self.ring().as_deref_mut() {
            Some(ring) => standing(ring, rate, now),
            None => Standing { remaining: rate.amount, more_in: 0 },
        }
    }

    /// Takes one call, if there is one left.
    pub(crate) fn take(&self, rate: Rate, now: i64) -> Result<Taken, Standing> {
        let mut place = self.ring();
        let ring = place.get_or_insert_with(|| Box::new(Ring::new(rate.span, now)));
        let now = ring.turn_to(now);
        if ring.used() >= rate.amount {
            return Err(standing(ring, rate, now));
        }
        let Some(taken) = ring.add(now) else { return Err(standing(ring, rate, now)) };
        self.kept.turn().keep(|| packed::pack(Some(ring)));
        Ok(taken)
    }

    /// Gives one call back that was taken just now.
    pub(crate) fn give_back(&self, taken: Taken) {
        let mut place = self.ring();
        let Some(ring) = place.as_deref_mut() else { return };
        ring.remove(taken);
        self.kept.turn().keep(|| packed::pack(Some(ring)));
    }

    /// Whether it is as good as new. Forgets what does not count any more.
    pub(crate) fn is_idle(&self, now: i64) -> bool {
        let mut ring = self.ring();
        if ring.as_deref().is_some_and(|ring| ring.is_over(now)) {
            *ring = None;
        }
        ring.is_none()
    }

    fn ring(&self) -> MutexGuard<'_, Option<Box<Ring>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is kept counts for nothing any more.
pub(crate) fn is_past(pair: Pair, window_seconds: u64, now: i64) -> bool {
    packed::unpack(pair, Span::of_seconds(window_seconds)).is_none_or(|ring| ring.is_over(now))
}

fn standing(ring: &mut Ring, rate: Rate, now: i64) -> Standing {
    let now = ring.turn_to(now);
    let used = ring.used();
    // More is used than may be when the amount was lowered.
    let freed = used.saturating_sub(rate.amount).saturating_add(1);
    Standing { remaining: rate.amount.saturating_sub(used), more_in: ring.wait_for(freed, now) }
}

#[cfg(test)]
mod tests;
