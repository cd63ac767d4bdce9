//! What runs by the clock.

use std::time::Duration;

use chrono::TimeDelta;
use imp_store::{Store, outbox};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::state::Clock;

/// Followers that are further behind load everything anew.
pub const OUTBOX_KEPT: TimeDelta = TimeDelta::hours(24);

const PRUNE_EVERY: Duration = Duration::from_secs(600);
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// Removes what every follower of the outbox has long read. Until cancelled.
pub async fn prune_outbox(store: Store, clock: Clock, cancel: CancellationToken) {
    loop {
        match outbox::prune(&store, clock.now() - OUTBOX_KEPT).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "outbox pruned"),
            Err(error) => tracing::warn!(%error, "the outbox was not pruned; it will be next time"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PRUNE_EVERY) => {}
        }
    }
}

/// Keeps metrics small. Until cancelled.
pub async fn sum_up_metrics(cancel: CancellationToken) {
    loop {
        metrics::upkeep();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(SUM_UP_EVERY) => {}
        }
    }
}
