//! Retries: exponential back-off up to a limit, with jitter, without end.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

const LONGEST: Duration = Duration::from_secs(10);

/// The delays between attempts.
pub struct Retry {
    delays: ExponentialBackoff,
}

impl Default for Retry {
    fn default() -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(LONGEST)
            .without_max_times()
            .with_jitter()
            .build();
        Self { delays }
    }
}

impl Retry {
    /// Waits before the next attempt. Returns false if the program stops.
    pub async fn wait(&mut self, cancel: &CancellationToken) -> bool {
        let delay = self.delays.next().unwrap_or(LONGEST);
        tokio::select! {
            () = cancel.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// Starts over with short delays, after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
