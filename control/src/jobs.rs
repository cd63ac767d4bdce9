//! Work of the platform that is due at a time, whichever replica does it. [`JOBS`] is the table of all.
//!
//! A job is a row (`imp_store::job`): what is asked for is done, over crashes and restarts, by one
//! replica at a time. What each process must do for itself (metrics, connected agents, certificates) is
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
    /// As in the table `jobs`. A name keeps its meaning: replicas of two releases share the table.
    pub name: &'static str,
    /// What makes it due.
    pub trigger: Trigger,
    /// Does it. May be stopped at any await and begun again, also by another replica.
    pub run: fn(Running) -> BoxFuture<'static, Result<Outcome, JobError>>,
}

/// What makes a job due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The clock: it is due at the first start, and so long after each success.
    Every(Duration),
    /// A change: `imp_store::job::schedule` in its transaction.
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

/// A job that is being done.
#[derive(Clone)]
pub struct Running {
    /// By the job, over all tenants. Its request is the job.
    pub operation: Operation,
    pub job: Job,
    /// It has confirmed its lease in a transaction, which may be open.
    confirmed: Arc<AtomicBool>,
}

impl Running {
    /// Begins a transaction that only the worker who has the job can commit: nobody else gets it before
    /// the transaction ends.
    pub async fn begin(&self) -> Result<Transaction<'_>, JobError> {
        let mut tx = Transaction::begin(&self.operation, self.operation.scope).await?;
        if !job::confirm(&mut tx, &self.job).await? {
            return Err(JobError::Lost);
        }
        self.confirmed.store(true, Ordering::Release);
        Ok(tx)
    }
}

/// How a job ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left; what the clock triggers is due again after its time.
    Done,
    /// There is more to do, at this time.
    Again(DateTime<Utc>),
}

/// Why a job is tried again later.
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
