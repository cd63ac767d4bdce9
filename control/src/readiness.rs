//! Readiness: whether this control plane can write, not only answer.

use std::sync::Arc;
use std::time::Duration;

use imp_store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::problem::Problem;

/// Requests within this time get the last answer.
const FRESH: Duration = Duration::from_secs(1);

/// The writer may be busy for a moment; longer than this counts as not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answer. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness {
    /// Locked during a check, so that one runs at a time.
    last: Arc<Mutex<Option<Answer>>>,
}

struct Answer {
    at: Instant,
    outcome: Result<(), Problem>,
}

impl Readiness {
    /// Writes a row and commits it, at most once a second.
    pub async fn check(&self, store: &Store) -> Result<(), Problem> {
        let mut last = self.last.lock().await;
        if let Some(answer) = last.as_ref().filter(|answer| answer.at.elapsed() < FRESH) {
            return answer.outcome.clone();
        }
        let outcome = match timeout(PATIENCE, store.probe(imp_process::clock::now())).await {
            Ok(probed) => probed,
            Err(_) => Err(StoreError::Unavailable("no write came through in time".to_owned())),
        };
        let outcome = outcome.map_err(Problem::from);
        *last = Some(Answer { at: Instant::now(), outcome: outcome.clone() });
        outcome
    }
}
