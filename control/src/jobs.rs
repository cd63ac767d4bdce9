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
use imp_store::{Cause, Store, StoreError, Tx, audit, job};
use thiserror::Error;
use uuid::Uuid;

use crate::state::Clock;

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
    pub store: Store,
    pub clock: Clock,
    pub job: Job,
    /// It has confirmed its lease in a transaction, which may be open.
    confirmed: Arc<AtomicBool>,
}

impl Running {
    /// Opens a transaction that only the worker who has the job can commit: nobody else gets it before
    /// the transaction ends.
    pub async fn begin(&self) -> Result<Tx, JobError> {
        let mut tx = self.store.begin().await?;
        tx.caused_by(Cause { request_id: self.job.id.to_string(), ..Cause::default() });
        if !job::confirm(&mut tx, &self.job).await? {
            return Err(JobError::Lost);
        }
        self.confirmed.store(true, Ordering::Release);
        Ok(tx)
    }

    /// The audit row of what it did to an object. Its request is the job.
    pub fn entry(&self, operation: &str, object: Uuid, detail: String) -> audit::Entry {
        audit::Entry {
            at: self.clock.now(),
            actor: audit::Actor::Job,
            tenant_id: None,
            operation: operation.to_owned(),
            object_id: object,
            detail,
            request_id: self.job.id.to_string(),
        }
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
    /// Its payload is not what this release expects.
    #[error("its payload cannot be read: {0}")]
    Payload(serde_json::Error),
    #[error("another worker has it by now")]
    Lost,
}
