//! What runs by the clock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use imp_store::audit::{self, Actor};
use imp_store::{Store, StoreError, outbox, product_publish};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics;
use crate::state::Clock;

/// Followers that are further behind load everything anew.
pub const OUTBOX_KEPT: TimeDelta = TimeDelta::hours(24);

/// How publishes came to their states is kept this long.
const REPORTS_KEPT: TimeDelta = TimeDelta::days(90);

const PRUNE_EVERY: Duration = Duration::from_secs(600);
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// Removes what every follower of the outbox has long read, and old reports. Until cancelled.
pub async fn prune(store: Store, clock: Clock, cancel: CancellationToken) {
    loop {
        match prune_once(&store, clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old rows pruned"),
            Err(error) => {
                tracing::warn!(%error, "old rows were not pruned; they will be next time")
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PRUNE_EVERY) => {}
        }
    }
}

/// One transaction, with its audit row when it removed something. How many rows.
pub async fn prune_once(store: &Store, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let mut tx = store.begin().await?;
    let outbox = outbox::prune(&mut tx, now - OUTBOX_KEPT).await?;
    let reports = audit::prune_reports(&mut tx, now - REPORTS_KEPT).await?;
    let hostnames = product_publish::forget_free_hostnames(&mut tx, now).await?;
    let rows = outbox + reports + hostnames;
    if rows == 0 {
        tx.rollback().await?;
        return Ok(0);
    }
    let entry = audit::Entry {
        at: now,
        actor: Actor::Platform,
        tenant_id: None,
        operation: "jobs.prune".to_owned(),
        object_id: Uuid::nil(),
        detail: format!("{outbox} outbox rows, {reports} reports, {hostnames} free hostnames"),
    };
    audit::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(rows)
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
