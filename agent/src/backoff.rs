//! Delays between retries.

use std::time::Duration;

use backon::ExponentialBackoff;
use imp_xds::client::waits;

/// The delays of [`waits`], which can start over.
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

    /// The delay after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.longest)
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.shortest, self.longest);
    }
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
