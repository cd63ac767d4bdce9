//! Scheduled and triggered work of the platform, done by any replica. [`JOBS`] is the table of all.
//!
//! A job is a row (`imp_store::job`), so it survives crashes and restarts, and one replica at a
//! time does it. What each process must do for itself (metrics, connected agents, certificates) is
//! no job.

pub mod change_plan;
pub mod prune;
pub mod sweep_plan_changes;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use imp_store::job::Job;
use imp_store::{StoreError, job};
use thiserror::Error;

use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub use prune::OUTBOX_KEPT;
pub use worker::Worker;

/// A kind of job.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the table `jobs`. It must keep its meaning: replicas of two releases share the
    /// table.
    pub name: &'static str,
    /// What makes it due.
    pub trigger: Trigger,
    /// Does the work. May be interrupted at any await and run again, also by another replica.
    pub run: fn(Running) -> BoxFuture<'static, Result<Outcome, JobError>>,
}

/// What makes a job due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The clock: due at the first start, and this long after each success.
    Every(Duration),
    /// A change, which calls `imp_store::job::schedule` in its transaction.
    Cause,
}

/// All kinds of jobs.
pub const JOBS: &[Kind] = &[
    Kind {
        name: prune::NAME,
        trigger: Trigger::Every(prune::EVERY),
        run: |it| Box::pin(prune::run(it)),
    },
    Kind {
        name: change_plan::NAME,
        trigger: Trigger::Cause,
        run: |it| Box::pin(change_plan::run(it)),
    },
    Kind {
        name: sweep_plan_changes::NAME,
        trigger: Trigger::Every(sweep_plan_changes::EVERY),
        run: |it| Box::pin(sweep_plan_changes::run(it)),
    },
];

/// A running job.
#[derive(Clone)]
pub struct Running {
    /// The operation, with the job as its actor and request, over all tenants.
    pub operation: Operation,
    pub job: Job,
    /// Set once a transaction, which may still be open, has confirmed the lease.
    confirmed: Arc<AtomicBool>,
}

impl Running {
    /// Begins a transaction that only the worker with the lease can commit: no other worker gets
    /// the job before the transaction ends.
    pub async fn begin(&self) -> Result<Transaction<'_>, JobError> {
        let mut tx = Transaction::begin(&self.operation, self.operation.scope).await?;
        if !job::confirm(&mut tx, &self.job).await? {
            return Err(JobError::Lost);
        }
        self.confirmed.store(true, Ordering::Release);
        Ok(tx)
    }
}

/// How a successful job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; a scheduled job is due again after its interval.
    Done,
    /// There is more to do, at this time.
    Again(DateTime<Utc>),
}

/// An error after which the job is retried.
#[derive(Debug, Error)]
pub enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its payload is not what this release expects.
    #[error("its payload cannot be read: {0}")]
    Payload(serde_json::Error),
    #[error("another worker has it by now")]
    Lost,
}
