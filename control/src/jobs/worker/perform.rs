//! One job, from its lease to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use chrono::{DateTime, Utc};
use imp_store::StoreError;
use imp_store::job::{self, Job};
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use super::Worker;
use crate::compile::is_passing;
use crate::jobs::{JobError, Kind, Outcome, Running, Trigger};
use crate::retry::Retry;

/// The longest interval between renewals of a lease; each lease is renewed three times.
const RENEWAL: Duration = Duration::from_secs(10);

/// A job whose transaction may be open is aborted after this many leases without a renewal: its own
/// transaction blocks the renewal, and other workers too.
const PATIENCE: u32 = 10;

/// A job that runs for this many leases hangs. It is aborted, so that it frees its slot, and
/// retried.
const LONGEST: u32 = 30;

/// The shortest and longest delay between attempts of a failing job. Jobs are retried without
/// limit.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// How a job ended.
enum End {
    Well(Outcome),
    Badly(String),
    /// The process stops.
    Stopped,
    /// Another worker has the job.
    Lost,
}

impl Worker {
    /// Runs the job, renews its lease meanwhile, and records how it ended.
    pub(super) async fn perform(self, job: Job, cancel: CancellationToken) {
        let kind = self.jobs.iter().find(|kind| kind.name == job.kind);
        let begun = Instant::now();
        let late = (self.platform.now() - job.due_at).to_std().unwrap_or_default();
        metrics::histogram!("imp_job_lag_seconds", "kind" => job.kind.clone()).record(late);
        let end = match kind {
            Some(kind) => self.work(kind, &job, &cancel).await,
            None => End::Badly("no such kind of job".to_owned()),
        };
        let outcome = match &end {
            End::Well(_) => "done",
            End::Badly(_) => "failed",
            End::Stopped => "stopped",
            End::Lost => "lost",
        };
        let labels = [("kind", job.kind.clone()), ("outcome", outcome.to_owned())];
        metrics::counter!("imp_jobs_total", &labels).increment(1);
        let took = begun.elapsed();
        metrics::histogram!("imp_job_duration_seconds", "kind" => job.kind.clone()).record(took);
        match &end {
            End::Badly(error) => {
                tracing::warn!(
                    kind = job.kind,
                    key = job.key,
                    attempts = job.attempts,
                    error,
                    "a job failed"
                );
            }
            _ => tracing::debug!(kind = job.kind, key = job.key, outcome, ?took, "a job ended"),
        }
        self.end(kind, &job, &end, &cancel).await;
    }

    /// Runs in a task of its own, so that a panic affects only this job.
    async fn work(&self, kind: &Kind, job: &Job, cancel: &CancellationToken) -> End {
        let operation = self.platform.of_job(kind.name, job.id);
        let confirmed = Arc::new(AtomicBool::new(false));
        let running = Running { operation, job: job.clone(), confirmed: confirmed.clone() };
        let span = info_span!("job", kind = kind.name, request_id = %job.id);
        let mut task = tokio::spawn((kind.run)(running).instrument(span));
        let mut renewal = interval(self.lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renewal.reset();
        let (begun, longest) = (Instant::now(), self.lease * LONGEST);
        let mut renewed = begun;
        let end = loop {
            tokio::select! {
                result = &mut task => return ended(result),
                () = cancel.cancelled() => break End::Stopped,
                () = sleep_until(begun + longest) => {
                    break End::Badly(format!("it took longer than {longest:?}"));
                }
                _ = renewal.tick() => {}
            }
            let asked = Instant::now();
            match timeout(
                RENEWAL.min(self.lease / 3),
                job::renew(&self.platform.store, job, self.lease),
            )
            .await
            {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => break End::Lost,
                _ if renewed.elapsed() >= self.patience(&confirmed) => break End::Lost,
                _ => {}
            }
        };
        task.abort();
        let _cancelled = task.await;
        end
    }

    /// How long a job may continue when its lease cannot be renewed.
    fn patience(&self, confirmed: &AtomicBool) -> Duration {
        match confirmed.load(Ordering::Acquire) {
            true => self.lease * PATIENCE,
            false => self.lease / 3 * 2,
        }
    }

    /// Records how it ended. If that fails, the job is taken again after its lease.
    async fn end(&self, kind: Option<&Kind>, job: &Job, end: &End, cancel: &CancellationToken) {
        let (mut retry, begun) = (Retry::default(), Instant::now());
        loop {
            let error = match self.try_end(kind, job, end).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let again = is_passing(&error) && begun.elapsed() < self.lease;
            if !(again && retry.wait(cancel).await) {
                tracing::warn!(kind = job.kind, key = job.key, %error, "a job will run again");
                return;
            }
        }
    }

    async fn try_end(&self, kind: Option<&Kind>, job: &Job, end: &End) -> Result<(), StoreError> {
        let now = self.platform.now();
        let every = kind.and_then(|kind| match kind.trigger {
            Trigger::Every(time) => Some(time),
            Trigger::Cause => None,
        });
        let mut tx = self.platform.store.begin().await?;
        match end {
            End::Well(Outcome::Again(at)) => job::repeat(&mut tx, job, *at).await?,
            End::Well(Outcome::Done) => match every {
                Some(time) => job::repeat(&mut tx, job, later(now, time)).await?,
                None => job::finish(&mut tx, job).await?,
            },
            End::Badly(error) => {
                job::fail(&mut tx, job, later(now, backoff(job.attempts)), error).await?
            }
            End::Stopped => job::release(&mut tx, job).await?,
            End::Lost => return tx.rollback().await,
        };
        tx.commit().await
    }
}

fn ended(result: Result<Result<Outcome, JobError>, JoinError>) -> End {
    match result {
        Ok(Ok(outcome)) => End::Well(outcome),
        Ok(Err(JobError::Lost)) => End::Lost,
        Ok(Err(error)) => End::Badly(error.to_string()),
        Err(error) if error.is_panic() => End::Badly("it panicked; see the log".to_owned()),
        Err(_) => End::Stopped,
    }
}

/// The delay after this attempt: exponential, with jitter, up to a limit.
fn backoff(attempts: i64) -> Duration {
    let (shortest, longest) = DELAYS;
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build();
    // Beyond these it does not grow.
    let number = usize::try_from(attempts.clamp(1, 32) - 1).unwrap_or_default();
    delays.nth(number).unwrap_or(longest)
}

fn later(now: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(by).ok().and_then(|by| now.checked_add_signed(by)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_ever_more_slowly_and_never_end() {
        let within = |attempts, least, most| {
            let waits: Vec<u64> = (0..50).map(|_| backoff(attempts).as_secs()).collect();
            assert!(
                waits.iter().all(|wait| (least..=most).contains(wait)),
                "{attempts}: {waits:?}"
            );
        };
        within(1, 1, 2);
        within(2, 2, 4);
        within(5, 16, 32);
        within(11, 600, 1200);
        within(i64::MAX, 600, 1200);
        let waits: std::collections::HashSet<Duration> = (0..20).map(|_| backoff(8)).collect();
        assert!(waits.len() > 10, "no two replicas at the same time");
    }
}
