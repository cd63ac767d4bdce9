//! How long to wait before another try.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Steps that double up to a limit, without end; each wait is drawn from the upper half of its step, so
/// that agents that failed together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    waits: ExponentialBackoff,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, waits: waits(shortest, longest) }
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.longest)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.shortest, self.longest);
    }
}

/// Jitter adds up to the whole of a wait, so half of each step is given.
fn waits(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(shortest.min(longest) / 2)
        .with_max_delay(longest / 2)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_without_end_and_start_again_after_a_success() {
        let (short, long) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(short, long);
        let waits: Vec<_> = (0..1_000).map(|_| backoff.next()).collect();
        for (number, wait) in waits.iter().enumerate() {
            let step = (short * 2_u32.pow(number.min(3) as u32)).min(long);
            assert!(*wait >= step / 2 && *wait <= step, "{number}: {wait:?}");
        }
        let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(distinct.len() > 100, "no two agents come back together");
        backoff.reset();
        assert!(backoff.next() <= short);
    }
}
