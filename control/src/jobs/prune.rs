//! Removes outdated rows: outbox rows that every follower has long read, old reports, reserved
//! hostnames that are free again, expired registration tokens.

use std::time::Duration;

use chrono::TimeDelta;
use imp_store::{audit, outbox, product_publish, registration_token};
use uuid::Uuid;

use super::{JobError, Outcome, Running};

pub const NAME: &str = "prune";
pub const EVERY: Duration = Duration::from_secs(600);

/// Followers that are further behind reload everything.
pub const OUTBOX_KEPT: TimeDelta = TimeDelta::hours(24);

/// How long the history of publishes' statuses is kept.
const REPORTS_KEPT: TimeDelta = TimeDelta::days(90);

/// How long registration tokens are shown after they expired.
const TOKENS_KEPT: TimeDelta = TimeDelta::days(30);

/// Runs in one transaction, with an audit row if it removed anything.
pub async fn run(it: Running) -> Result<Outcome, JobError> {
    let mut tx = it.begin().await?;
    let now = tx.now;
    let outbox = outbox::prune(&mut tx, now - OUTBOX_KEPT).await?;
    let reports = audit::prune_reports(&mut tx, now - REPORTS_KEPT).await?;
    let hostnames = product_publish::forget_free_hostnames(&mut tx, now).await?;
    let tokens = registration_token::prune(&mut tx, now - TOKENS_KEPT).await?;
    if outbox + reports + hostnames + tokens == 0 {
        tx.rollback().await?;
        return Ok(Outcome::Done);
    }
    let detail = format!(
        "{outbox} outbox rows, {reports} reports, {hostnames} free hostnames, \
         {tokens} registration tokens"
    );
    tracing::info!("pruned: {detail}");
    tx.finish_with("jobs.prune", Uuid::nil(), detail).await?;
    Ok(Outcome::Done)
}
