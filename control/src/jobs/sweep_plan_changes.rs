//! Schedules changes of plan that are overdue because a release without jobs wrote them.

use std::time::Duration;

use imp_store::{job, subscription};
use uuid::Uuid;

use super::{JobError, Outcome, Running, change_plan};

pub const NAME: &str = "sweep_plan_changes";
pub const EVERY: Duration = Duration::from_secs(300);

/// Handles a batch; the next one follows as soon as these are moved.
pub async fn run(it: Running) -> Result<Outcome, JobError> {
    let now = it.operation.now();
    let due = subscription::due(&it.operation.store, now).await?;
    if due.is_empty() {
        return Ok(Outcome::Done);
    }
    let mut tx = it.begin().await?;
    let mut asked = 0;
    for subscription in &due {
        // If there is one already, it is due by now.
        let new = change_plan::job(subscription.id, now, now);
        asked += u32::from(job::seed(&mut tx, &new).await?);
    }
    if asked == 0 {
        tx.rollback().await?;
        return Ok(Outcome::Done);
    }
    let detail = format!("{asked} changes of plan were due without a job");
    tracing::info!("{detail}");
    tx.finish_with("jobs.sweep_plan_changes", Uuid::nil(), detail).await?;
    Ok(Outcome::Again(now + PAUSE))
}

const PAUSE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);
