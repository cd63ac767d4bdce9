//! Removes what nobody needs any more: what every follower of the outbox has long read, old reports,
//! hostnames that are free again, registration tokens that expired.

use std::time::Duration;

use chrono::TimeDelta;
use imp_store::{audit, outbox, product_publish, registration_token};
use uuid::Uuid;

use super::{JobError, Outcome, Running};

pub const NAME: &str = "prune";
pub const EVERY: Duration = Duration::from_secs(600);

/// Followers that are further behind load everything again.
pub const OUTBOX_KEPT: TimeDelta = TimeDelta::hours(24);

/// How publishes came to their states is kept this long.
const REPORTS_KEPT: TimeDelta = TimeDelta::days(90);

/// Registration tokens are shown this long after they expired.
const TOKENS_KEPT: TimeDelta = TimeDelta::days(30);

/// One transaction, with its audit row when it removed something.
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
