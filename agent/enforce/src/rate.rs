//! A rate: a maximum of calls in any window of its length, exact under concurrency.
//!
//! The calls of the last window are in a [`Ring`] of bounded size, which exists only while some of
//! them count. A call is never counted too early, so that none passes that should not.

mod packed;
mod ring;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kept::Kept;
use crate::ledger::Pair;
use ring::Ring;
pub(crate) use ring::{Span, Taken};

const SECOND: i64 = 1_000_000_000;

/// Calls per window, which is in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    amount: u64,
    span: Span,
}

impl Rate {
    /// An amount of 0 lets no call pass.
    pub(crate) fn new(amount: u64, window_seconds: u64) -> Self {
        Self { amount, span: Span::of_seconds(window_seconds) }
    }
}

/// The state of a rate.
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
    /// `None` if no call counts.
    ring: Mutex<Option<Box<Ring>>>,
    kept: Kept,
}

impl Count {
    /// Continues a stored count.
    pub(crate) fn kept((kept, pair): (Kept, Pair), window_seconds: u64) -> Self {
        let ring = packed::unpack(pair, Span::of_seconds(window_seconds)).map(Box::new);
        Self { ring: Mutex::new(ring), kept }
    }

    /// Stores the count, also if there was no space before.
    pub(crate) fn keep(&self) {
        let mut ring = self.ring();
        self.kept.turn().keep_at_last(|| packed::pack(ring.as_deref_mut()));
    }

    /// The current state, without a call.
    pub(crate) fn look(&self, rate: Rate, now: i64) -> Standing {
        match self.ring().as_deref_mut() {
            Some(ring) => standing(ring, rate, now),
            None => Standing { remaining: rate.amount, more_in: 0 },
        }
    }

    /// Takes one call, if there is one left. Returns what is left after it.
    pub(crate) fn take(&self, rate: Rate, now: i64) -> Result<(Taken, Standing), Standing> {
        let mut place = self.ring();
        let ring = place.get_or_insert_with(|| Box::new(Ring::new(rate.span, now)));
        let now = ring.turn_to(now);
        if ring.used() >= rate.amount {
            return Err(standing(ring, rate, now));
        }
        let Some(taken) = ring.add(now) else { return Err(standing(ring, rate, now)) };
        self.kept.turn().keep(|| packed::pack(Some(ring)));
        Ok((taken, standing(ring, rate, now)))
    }

    /// Gives back a call that was just taken.
    pub(crate) fn give_back(&self, taken: Taken) {
        let mut place = self.ring();
        let Some(ring) = place.as_deref_mut() else { return };
        ring.remove(taken);
        self.kept.turn().keep(|| packed::pack(Some(ring)));
    }

    /// Whether no call counts any more. Drops those that do not.
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

/// Whether the stored count is obsolete.
pub(crate) fn is_past(pair: Pair, window_seconds: u64, now: i64) -> bool {
    packed::unpack(pair, Span::of_seconds(window_seconds)).is_none_or(|ring| ring.is_over(now))
}

fn standing(ring: &mut Ring, rate: Rate, now: i64) -> Standing {
    let now = ring.turn_to(now);
    let used = ring.used();
    // More than the amount is used after the amount was lowered.
    let freed = used.saturating_sub(rate.amount).saturating_add(1);
    Standing { remaining: rate.amount.saturating_sub(used), more_in: ring.wait_for(freed, now) }
}

#[cfg(test)]
mod tests;
