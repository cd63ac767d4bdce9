//! Who was refused at the agents' port: counted all, told in the log and in the audit trail once in a
//! while for each agent and reason, because anyone may ask without end.

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

/// Of one agent and reason, so often.
const EVERY: Duration = Duration::from_secs(60);
/// Agents and reasons that are remembered.
const MOST: usize = 4096;

type Key = (Option<AgentId>, &'static str);

/// When each was told, and how many came since.
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

    /// Tells of one.
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
        // The writer stops with the program, and logs what else goes wrong.
        let _stopping = self.queue.note(Work::Audit(entry)).await;
    }

    /// How many were not told since the last time; None: it is not time yet.
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
