//! A quota: a number of calls per calendar day, week, month or year. Window and count share one atomic
//! number, so that the count of an old window never leaks into a new one.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kept::Kept;
use crate::ledger::Pair;

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The state of one quota for one holder.
#[derive(Debug, Default)]
pub(crate) struct Count {
    state: AtomicU64,
    kept: Kept,
}

/// Whether a stored number is of a window before the current one, which is one of these.
pub(crate) fn is_past(number: u64, current: &RangeInclusive<u64>) -> bool {
    number >> COUNT_BITS < *current.start()
}

fn pack(window: u64, used: u64) -> u64 {
    (window << COUNT_BITS) | used.min(COUNT_MASK)
}

/// The window that a call counts in, and its count. A call that read the clock just before a
/// window's end may arrive after the first one of the next: it counts there, because otherwise it
/// would reset that count. Any other window is past, or the clock was corrected.
fn counted(state: u64, window: u64) -> (u64, u64) {
    let held = state >> COUNT_BITS;
    if held == window || held == window + 1 { (held, state & COUNT_MASK) } else { (window, 0) }
}

impl Count {
    /// Continues a stored count.
    pub(crate) fn kept((kept, [number, _]): (Kept, Pair)) -> Self {
        Self { state: AtomicU64::new(number), kept }
    }

    /// Stores the count, also if there was no space before.
    pub(crate) fn keep(&self) {
        self.kept.turn().keep_at_last(|| [self.state.load(Ordering::Acquire), 0]);
    }

    /// Restores an earlier count; must come before the first call.
    pub(crate) fn resume(&self, window: u64, used: u64) {
        let turn = self.kept.turn();
        self.state.store(pack(window, used), Ordering::Release);
        turn.keep(|| [pack(window, used), 0]);
    }

    /// The calls so far in a window.
    pub(crate) fn used(&self, window: u64) -> u64 {
        counted(self.state.load(Ordering::Acquire), window).1
    }

    /// Counts a call if fewer than `amount` are used. Returns the count, also on failure.
    pub(crate) fn take(&self, window: u64, amount: u64) -> Result<u64, u64> {
        let turn = self.kept.turn();
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let (window, before) = counted(state, window);
            if before >= amount.min(COUNT_MASK) {
                return Err(before);
            }
            let next = pack(window, before + 1);
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    turn.keep(|| [next, 0]);
                    return Ok(before + 1);
                }
                Err(newer) => state = newer,
            }
        }
    }

    /// Reverts a call that was just counted.
    pub(crate) fn give_back(&self, window: u64) {
        let one_less = |state: u64| match counted(state, window) {
            (_, 0) => None,
            (window, used) => Some(pack(window, used - 1)),
        };
        let turn = self.kept.turn();
        // An error means that the window has ended, so there is nothing to give back to.
        let given = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        if let Some(state) = given.ok().and_then(one_less) {
            turn.keep(|| [state, 0]);
        }
    }

    /// The window that is counted, and its calls, if the current one is among these.
    pub(crate) fn in_use(&self, current: &RangeInclusive<u64>) -> Option<(u64, u64)> {
        let state = self.state.load(Ordering::Acquire);
        let (held, used) = (state >> COUNT_BITS, state & COUNT_MASK);
        // See `counted` for the one after them.
        let is_current = (*current.start()..=current.end() + 1).contains(&held);
        (is_current && used > 0).then_some((held, used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_window_starts_at_nothing() {
        let count = Count::default();
        assert_eq!(count.take(7, 2), Ok(1));
        assert_eq!(count.take(7, 2), Ok(2));
        assert_eq!(count.take(7, 2), Err(2));
        assert_eq!(count.take(8, 2), Ok(1));
        assert_eq!(count.used(8), 1);
        count.give_back(8);
        assert_eq!(count.in_use(&(8..=8)), None);
        assert_eq!(count.take(6, 2), Ok(1), "a clock that was put right");
    }

    #[test]
    fn a_count_is_in_use_in_any_window_that_may_be_current() {
        let count = Count::default();
        assert_eq!(count.in_use(&(0..=9)), None);
        assert_eq!(count.take(8, 2), Ok(1));
        for current in [8..=8, 7..=7, 6..=8, 8..=10] {
            assert_eq!(count.in_use(&current), Some((8, 1)), "{current:?}");
        }
        for current in [9..=9, 9..=10, 5..=6] {
            assert_eq!(count.in_use(&current), None, "{current:?}");
        }
    }

    #[test]
    fn a_late_call_of_the_old_window_does_not_wipe_the_new_one_out() {
        let count = Count::default();
        assert_eq!(count.take(8, 2), Ok(1));
        assert_eq!(count.take(7, 2), Ok(2));
        assert_eq!(count.take(7, 2), Err(2));
        assert_eq!(count.take(8, 2), Err(2));
    }

    #[test]
    fn many_threads_take_exactly_the_amount() {
        let count = std::sync::Arc::new(Count::default());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let count = count.clone();
                std::thread::spawn(move || (0..500).filter(|_| count.take(1, 777).is_ok()).count())
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 777);
    }
}
