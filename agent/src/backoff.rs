//! How long to wait before another try.

use std::time::Duration;

use rand::Rng as _;

/// Steps that double up to a limit; each wait is drawn from the upper half of its step, so that
/// agents that failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    step: Duration,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, step: shortest }
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = rand::rng().random_range(self.step / 2..=self.step);
        self.step = (self.step * 2).min(self.longest);
        wait
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.step = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_again_after_a_success() {
        let (short, long) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(short, long);
        let waits: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(waits[0] >= short / 2 && waits[0] <= short, "{waits:?}");
        assert!(waits[4..].iter().all(|wait| *wait >= long / 2 && *wait <= long), "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= short);
    }
}
