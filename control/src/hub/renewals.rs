//! Limits how often an agent may renew its identity: each renewal writes an audit row.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use imp_core::AgentId;
use tokio::time::Instant;
use tonic::Status;

/// An agent renews every 40 minutes, and again after a lost answer.
const MOST: u32 = 20;
const WITHIN: Duration = Duration::from_secs(600);

/// For each agent that renewed lately, the start of the period and the count.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    lately: Mutex<HashMap<AgentId, (Instant, u32)>>,
}

impl Renewals {
    /// Counts a renewal. Returns `RESOURCE_EXHAUSTED` if it is one too many.
    pub(super) fn count(&self, agent: AgentId, now: Instant) -> Result<(), Status> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if !lately.contains_key(&agent) {
            lately.retain(|_, (since, _)| now.saturating_duration_since(*since) < WITHIN);
        }
        let (since, times) = lately.entry(agent).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= WITHIN {
            (*since, *times) = (now, 0);
        }
        if *times >= MOST {
            let words = format!("more than {MOST} renewals in {} minutes", WITHIN.as_secs() / 60);
            return Err(Status::resource_exhausted(words));
        }
        *times += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn an_agent_that_renews_without_end_is_refused_for_a_while_and_alone() {
        let (renewals, start) = (Renewals::default(), Instant::now());
        let (rogue, other) = (AgentId::new(), AgentId::new());
        for _ in 0..MOST {
            renewals.count(rogue, start).unwrap();
        }
        assert_eq!(renewals.count(rogue, start).unwrap_err().code(), Code::ResourceExhausted);
        renewals.count(other, start).unwrap();
        renewals.count(rogue, start + WITHIN).unwrap();
        renewals.count(AgentId::new(), start + 3 * WITHIN).unwrap();
        assert_eq!(renewals.lately.lock().unwrap().len(), 1, "who is quiet is forgotten");
    }
}
