//! What runs by the clock.

use imp_core::plan::Plan;
use imp_store::Record as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::product::CatalogStatus;
use imp_core::scope::TenantScope;
use imp_core::subscription::Subscription;
use imp_store::audit::{self, Actor};
use imp_store::outbox::{self, Subject};
use imp_store::{Store, StoreError, product_publish, subscription};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics;
use crate::state::Clock;

/// Followers that are further behind load everything anew.
pub const OUTBOX_KEPT: TimeDelta = TimeDelta::hours(24);

/// How publishes came to their states is kept this long.
const REPORTS_KEPT: TimeDelta = TimeDelta::days(90);

const PRUNE_EVERY: Duration = Duration::from_secs(600);
const CHANGE_EVERY: Duration = Duration::from_secs(20);
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
        actor: Actor::Job,
        tenant_id: None,
        operation: "jobs.prune".to_owned(),
        object_id: Uuid::nil(),
        detail: format!("{outbox} outbox rows, {reports} reports, {hostnames} free hostnames"),
        request_id: String::new(),
    };
    audit::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Moves subscriptions whose period has ended to the plans that they were to move to. Until
/// cancelled.
pub async fn change_plans(store: Store, clock: Clock, cancel: CancellationToken) {
    loop {
        match change_plans_once(&store, clock.now()).await {
            Ok(0) => {}
            Ok(moved) => tracing::info!(moved, "subscriptions changed their plan"),
            Err(error) => tracing::warn!(%error, "plans were not changed; they will be next time"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(CHANGE_EVERY) => {}
        }
    }
}

/// Each in a transaction of its own. How many were moved.
pub async fn change_plans_once(store: &Store, now: DateTime<Utc>) -> Result<usize, StoreError> {
    let mut moved = 0;
    loop {
        let due = subscription::due(store, now).await?;
        if due.is_empty() {
            return Ok(moved);
        }
        for it in due {
            match change_plan(store, it, now).await {
                Ok(()) => moved += 1,
                // Somebody changed it meanwhile: it comes up again if it still is due.
                Err(StoreError::VersionMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A plan that was closed or deleted since is nothing to move to; the subscription stays where it is.
async fn change_plan(
    store: &Store,
    mut it: Subscription,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Some(change) = it.plan_change.take() else { return Ok(()) };
    let mut tx = store.begin().await?;
    let plan = Plan::get_in(&mut tx, &TenantScope::platform(), change.plan_id).await?;
    let there = plan.is_some_and(|plan| plan.status != CatalogStatus::Closed);
    let expected = it.meta.version;
    if there {
        it.plan_id = change.plan_id;
        it.plan_version = change.plan_version;
    }
    it.meta.touch(now);
    subscription::update(&mut tx, &it, expected).await?;
    outbox::append(&mut tx, Subject::Subscription(it.id)).await?;
    let what = if there { "moved to" } else { "not moved to" };
    let entry = audit::Entry {
        at: now,
        actor: Actor::Job,
        tenant_id: Some(it.tenant_id),
        operation: "subscriptions.change_plan".to_owned(),
        object_id: it.id.into(),
        detail: format!("{what} version {} of plan {}", change.plan_version, change.plan_id),
        request_id: String::new(),
    };
    audit::append(&mut tx, &entry).await?;
    tx.commit().await
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
