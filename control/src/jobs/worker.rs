//! Takes the jobs that are due, several at a time.

mod perform;

use std::time::Duration;

use imp_store::StoreError;
use imp_store::job::{self, NewJob};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{JOBS, Kind, Trigger};
use crate::operation::Operation;
use crate::retry::Retry;

/// Concurrent jobs of this process.
const SLOTS: usize = 4;

/// How long after its worker died a job is taken by another one.
const LEASE: Duration = Duration::from_secs(60);

/// The shortest and longest interval between reads of the table: the shortest bounds the load of
/// scheduled jobs, the longest how late jobs of dead workers and of other processes are found.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs jobs. Each clone runs its own.
#[derive(Clone)]
pub struct Worker {
    platform: Operation,
    jobs: &'static [Kind],
    lease: Duration,
}

impl Worker {
    pub fn new(platform: Operation) -> Self {
        Self { platform, jobs: JOBS, lease: LEASE }
    }

    /// Uses other kinds of jobs and another lease.
    #[must_use]
    pub fn with(self, jobs: &'static [Kind], lease: Duration) -> Self {
        Self { jobs, lease, ..self }
    }

    /// Runs until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        if !self.seed_all(&cancel).await {
            return;
        }
        let mut changed = self.platform.store.jobs_changed();
        let mut doing = JoinSet::new();
        let mut retry = Retry::default();
        loop {
            changed.mark_unchanged();
            let rest = match self.fill(&mut doing, &cancel).await {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::warn!(%error, "jobs wait for the database");
                    if !retry.wait(&cancel).await {
                        break;
                    }
                    continue;
                }
            };
            retry.reset();
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = doing.join_next(), if !doing.is_empty() => {}
                _ = changed.changed() => {}
                () = sleep(rest) => {}
            }
        }
        // Each releases its job.
        while doing.join_next().await.is_some() {}
    }

    /// Runs the jobs that are due now, one after the other. Returns how many were begun.
    pub async fn run_due(&self, kinds: &[&str]) -> Result<usize, StoreError> {
        let mut begun = 0;
        while let Some(job) =
            job::take(&self.platform.store, kinds, self.platform.now(), self.lease).await?
        {
            begun += 1;
            self.clone().perform(job, CancellationToken::new()).await;
        }
        Ok(begun)
    }

    /// Inserts the scheduled jobs that are missing. Every replica does so at its start.
    async fn seed_all(&self, cancel: &CancellationToken) -> bool {
        let mut retry = Retry::default();
        loop {
            match self.seed().await {
                Ok(()) => return true,
                Err(error) => tracing::warn!(%error, "jobs wait for the database"),
            }
            if !retry.wait(cancel).await {
                return false;
            }
        }
    }

    async fn seed(&self) -> Result<(), StoreError> {
        let now = self.platform.now();
        let mut tx = self.platform.store.begin().await?;
        for kind in self.jobs.iter().filter(|kind| kind.trigger != Trigger::Cause) {
            let (key, payload) = (String::new(), json!({}));
            let new = NewJob { kind: kind.name, key, payload, due_at: now, created_at: now };
            job::seed(&mut tx, &new).await?;
        }
        tx.commit().await
    }

    /// Begins jobs that are due while there are slots. Returns how long to wait before the next
    /// look.
    async fn fill(
        &self,
        doing: &mut JoinSet<()>,
        cancel: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        let (shortest, longest) = LOOKS;
        let kinds: Vec<&str> = self.jobs.iter().map(|kind| kind.name).collect();
        while doing.len() < SLOTS {
            let now = self.platform.now();
            let wait = match job::next_due(&self.platform.store, &kinds).await? {
                // Takes the turn to write only if the read found a job.
                Some(due) if due <= now => {
                    match job::take(&self.platform.store, &kinds, now, self.lease).await? {
                        Some(job) => {
                            doing.spawn(self.clone().perform(job, cancel.clone()));
                            continue;
                        }
                        None => shortest,
                    }
                }
                Some(due) => (due - now).to_std().unwrap_or_default(),
                None => longest,
            };
            return Ok(wait.clamp(shortest, longest));
        }
        Ok(longest)
    }
}
