//! How everything here tries again: ever more slowly up to a limit, with jitter, without end.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

const LONGEST: Duration = Duration::from_secs(10);

/// The waits between tries.
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
    /// Waits before the next try. False: everything stops, do not try again.
    pub async fn wait(&mut self, cancel: &CancellationToken) -> bool {
        let delay = self.delays.next().unwrap_or(LONGEST);
        tokio::select! {
            () = cancel.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// It worked: begin with short waits the next time.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
