//! Refused callers of the agents' port: all are counted; the log and the audit trail get one entry
//! per agent, reason and period, because anyone can send refused calls without limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imp_core::AgentId;
use imp_store::audit::{Actor, Entry};
use tokio::time::Instant;
use uuid::Uuid;

use super::agent_auth::Refused;
use super::report_writer::{ReportQueue, Work};
use crate::state::Clock;

/// The period of entries for one agent and reason.
const EVERY: Duration = Duration::from_secs(60);
/// How many agents and reasons are remembered.
const MOST: usize = 4096;

type Key = (Option<AgentId>, &'static str);

/// When each was last reported, and how many came since.
type Told = HashMap<Key, (Option<Instant>, u64)>;

/// The refusals of this process. Cheap to clone.
#[derive(Clone)]
pub struct Refusals {
    queue: ReportQueue,
    clock: Clock,
    told: Arc<Mutex<Told>>,
}

impl Refusals {
    pub fn new(queue: ReportQueue, clock: Clock) -> Self {
        Self { queue, clock, told: Arc::default() }
    }

    /// Records a refusal.
    pub async fn tell(&self, call: &'static str, refused: &Refused) {
        let Refused { status, reason, agent } = refused;
        metrics::counter!("imp_hub_refused_total", "call" => call, "reason" => *reason)
            .increment(1);
        if *reason == "unavailable" {
            return;
        }
        let Some(untold) = self.is_due((*agent, reason), Instant::now()) else { return };
        let why = status.message();
        tracing::warn!(
            call,
            reason,
            agent = agent.map(tracing::field::display),
            untold,
            why,
            "refused at the agents' port"
        );
        let entry = Entry {
            at: self.clock.now(),
            actor: agent.map_or(Actor::Platform, Actor::Agent),
            tenant_id: None,
            operation: "agents.refuse".to_owned(),
            object_id: agent.map_or(Uuid::nil(), Into::into),
            detail: format!("{call}: {reason}; {untold} more since it was last told"),
            request_id: String::new(),
        };
        // The writer stops with the program, and logs other errors.
        let _stopping = self.queue.note(Work::Audit(entry)).await;
    }

    /// Returns how many were left out since the last entry; `None` if it is too early for another.
    fn is_due(&self, key: Key, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST {
            told.retain(|_, (at, _)| at.is_some_and(|at| now - at < EVERY));
        }
        if !told.contains_key(&key) && told.len() >= MOST {
            return None;
        }
        let (at, untold) = told.entry(key).or_default();
        if at.is_some_and(|at| now - at < EVERY) {
            *untold += 1;
            return None;
        }
        *at = Some(now);
        Some(std::mem::take(untold))
    }
}
