//! A rate as a generic cell rate algorithm: one atomic number, exact under concurrency.
//!
//! The number is the theoretical arrival time (TAT): when the bucket is full again. A call moves it
//! by one interval; it may be at most `amount` intervals ahead of now. So a burst of `amount` passes
//! at once, and one more call per interval.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::kept::Kept;

const SECOND: i64 = 1_000_000_000;

/// The arithmetic of one rate, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    interval: i64,
    tolerance: i64,
}

impl Rate {
    /// Rounds against the caller: never more than `amount` per window. An amount of 0 lets nobody
    /// pass.
    pub(crate) fn new(amount: u64, window_seconds: u64) -> Self {
        if amount == 0 {
            return Self { interval: SECOND, tolerance: 0 };
        }
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        // A window of 0 would be no limit at all.
        let window = i64::try_from(window_seconds).unwrap_or(i64::MAX).max(1);
        let window = window.saturating_mul(SECOND);
        let interval = (window / amount).saturating_add(i64::from(window % amount != 0)).max(1);
        // A century at most, so that sums with a time stay in range.
        let tolerance = interval.saturating_mul(amount).min(100 * 365 * 86_400 * SECOND);
        Self { interval: interval.min(tolerance), tolerance }
    }
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Calls that would pass now.
    pub(crate) remaining: u64,
    /// Nanoseconds until one more would.
    pub(crate) more_in: i64,
}

/// The state of one rate for one holder.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    tat: AtomicI64,
    kept: Kept,
}

impl Bucket {
    /// Continues where it was kept.
    pub(crate) fn kept((kept, number): (Kept, u64)) -> Self {
        Self { tat: AtomicI64::new(number as i64), kept }
    }

    /// Brings it to where it is kept, also if there was no room before.
    pub(crate) fn keep(&self) {
        self.kept.turn().keep_at_last(self.tat.load(Ordering::Acquire) as u64);
    }

    /// How it stands, without a call.
    pub(crate) fn look(&self, rate: Rate, now: i64) -> Standing {
        standing(rate, self.arrival(rate, now), now)
    }

    /// The TAT. A call puts it at most the tolerance ahead; further ahead means that the clock was
    /// put back, and the bucket counts as empty now, not as empty until the old time comes again.
    /// One second is left to calls that read the clock earlier than they came here.
    fn arrival(&self, rate: Rate, now: i64) -> i64 {
        let tat = self.tat.load(Ordering::Acquire);
        let most = now.saturating_add(rate.tolerance);
        if tat <= most.saturating_add(SECOND) {
            return tat;
        }
        self.tat.fetch_min(most, Ordering::AcqRel).min(most)
    }

    /// Takes one call, if there is one left.
    pub(crate) fn take(&self, rate: Rate, now: i64) -> Result<Standing, Standing> {
        let turn = self.kept.turn();
        let mut tat = self.arrival(rate, now);
        loop {
            let next = tat.max(now).saturating_add(rate.interval);
            if next.saturating_sub(now) > rate.tolerance {
                return Err(standing(rate, tat, now));
            }
            match self.tat.compare_exchange_weak(tat, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    turn.keep(next as u64);
                    return Ok(standing(rate, next, now));
                }
                Err(newer) => tat = newer,
            }
        }
    }

    /// Gives one call back that was taken just now.
    pub(crate) fn give_back(&self, rate: Rate) {
        let turn = self.kept.turn();
        let before = self.tat.fetch_sub(rate.interval, Ordering::AcqRel);
        turn.keep(before.saturating_sub(rate.interval) as u64);
    }

    /// Whether it is as good as new.
    pub(crate) fn is_idle(&self, now: i64) -> bool {
        self.tat.load(Ordering::Acquire) <= now
    }
}

fn standing(rate: Rate, tat: i64, now: i64) -> Standing {
    let ahead = tat.saturating_sub(now).max(0);
    let left = (rate.tolerance - ahead).max(0) / rate.interval;
    // The next call passes when one interval of room is there.
    let used = rate.tolerance / rate.interval - left;
    let more_in = if used == 0 { 0 } else { ahead - (used - 1) * rate.interval };
    Standing { remaining: u64::try_from(left).unwrap_or(0), more_in: more_in.max(0) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_700_000_000 * SECOND;

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let (bucket, rate) = (Bucket::default(), Rate::new(5, 60));
        let first = bucket.take(rate, START).unwrap();
        assert_eq!(first, Standing { remaining: 4, more_in: 12 * SECOND });
        for _ in 0..4 {
            assert!(bucket.take(rate, START).is_ok());
        }
        let empty = Standing { remaining: 0, more_in: 12 * SECOND };
        assert_eq!(bucket.take(rate, START), Err(empty));
        assert_eq!(bucket.look(rate, START), empty);
        assert!(bucket.take(rate, START + 12 * SECOND - 1).is_err());
        assert!(bucket.take(rate, START + 12 * SECOND).is_ok());
        assert!(bucket.take(rate, START + 12 * SECOND).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1, 60));
        assert!(bucket.take(rate, START).is_ok());
        bucket.give_back(rate);
        assert!(bucket.is_idle(START));
        assert!(bucket.take(rate, START).is_ok());
        assert!(bucket.take(rate, START).is_err());
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        for (amount, window) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1, 0)] {
            let (bucket, rate) = (Bucket::default(), Rate::new(amount, window));
            assert!(bucket.take(rate, START).is_ok(), "{amount}/{window}");
            let _ = bucket.look(rate, START);
        }
        assert!(Bucket::default().take(Rate::new(0, 60), START).is_err());
    }

    #[test]
    fn a_window_of_nothing_is_still_a_limit() {
        let (bucket, rate) = (Bucket::default(), Rate::new(2, 0));
        let passed = (0..100).filter(|_| bucket.take(rate, START).is_ok()).count();
        assert_eq!(passed, 2);
    }

    #[test]
    fn a_clock_that_is_put_back_locks_nobody_out() {
        let (bucket, rate) = (Bucket::default(), Rate::new(2, 60));
        assert!(bucket.take(rate, START).is_ok() && bucket.take(rate, START).is_ok());
        let earlier = START - 3_600 * SECOND;
        assert!(bucket.take(rate, earlier).is_err(), "nothing is given away");
        assert!(bucket.take(rate, earlier + 30 * SECOND).is_ok(), "one interval later");
        assert!(bucket.take(rate, earlier + 30 * SECOND).is_err());
    }

    #[test]
    fn many_threads_take_exactly_the_amount() {
        let (bucket, rate) = (Arc::new(Bucket::default()), Rate::new(1_000, 3_600));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let bucket = bucket.clone();
                std::thread::spawn(move || {
                    (0..500).filter(|_| bucket.take(rate, START).is_ok()).count()
                })
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 1_000);
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_burst_and_refill(
            amount in 1_u64..50,
            window in 1_u64..100,
            steps in proptest::collection::vec(0_i64..5_000_000_000, 1..300),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::new(amount, window));
            let mut now = START;
            let mut passed = Vec::new();
            for step in steps {
                now += step;
                let look = bucket.look(rate, now);
                let took = bucket.take(rate, now);
                prop_assert_eq!(took.is_ok(), look.remaining > 0);
                if took.is_ok() {
                    passed.push(now);
                }
                if let Err(standing) = took {
                    let probe = now + standing.more_in;
                    prop_assert!(bucket.look(rate, probe).remaining >= 1, "Retry-After is enough");
                    prop_assert_eq!(bucket.look(rate, probe - 1).remaining, 0, "and not too much");
                }
            }
            let window_ns = i128::from(window) * i128::from(SECOND);
            for (index, from) in passed.iter().enumerate() {
                for (more, to) in passed.iter().skip(index).enumerate() {
                    let refill = i128::from(to - from) * i128::from(amount) / window_ns;
                    prop_assert!((more as i128) < i128::from(amount) + refill + 1);
                }
            }
        }
    }
}
