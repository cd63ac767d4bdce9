//! Replay protection: each proof is accepted once. Ids are kept while a proof can be valid, and
//! only for authenticated agents, so that nobody else can fill the memory.

use std::collections::HashMap;

use imp_grammar::caps;
use imp_grammar::proof::TOLERANCE_MS;

/// An agent makes a few calls a minute, or some hundred if it retries in a loop.
const MOST: usize = caps::AGENT_PROOFS.size();

/// A proof is valid within the clock tolerance before and after its time.
const KEPT_MS: i64 = 2 * TOLERANCE_MS + 1_000;

/// The proofs of one agent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Proof ids with the time at which each can be dropped.
    ids: HashMap<Box<str>, i64>,
}

/// The reason why a valid proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It was used before.
    Again,
    /// Too many proofs to remember.
    TooMany,
}

impl Seen {
    /// Accepts a proof once.
    pub(super) fn note(&mut self, id: &str, now_ms: i64) -> Result<(), Replay> {
        if self.ids.len() >= 64 {
            self.ids.retain(|_, until| *until > now_ms);
        }
        if self.ids.get(id).is_some_and(|until| *until > now_ms) {
            return Err(Replay::Again);
        }
        if self.ids.len() >= MOST {
            return Err(Replay::TooMany);
        }
        self.ids.insert(id.into(), now_ms.saturating_add(KEPT_MS));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_once_for_as_long_as_it_could_be_good() {
        let mut seen = Seen::default();
        assert_eq!(seen.note("a", 0), Ok(()));
        assert_eq!(seen.note("a", 2 * TOLERANCE_MS), Err(Replay::Again));
        assert_eq!(seen.note("b", 0), Ok(()));
        assert_eq!(seen.note("a", KEPT_MS), Ok(()), "no clock takes it any more");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let mut seen = Seen::default();
        for n in 0..MOST {
            assert_eq!(seen.note(&n.to_string(), 0), Ok(()));
        }
        assert_eq!(seen.note("one more", 0), Err(Replay::TooMany));
        assert_eq!(seen.note("later", KEPT_MS), Ok(()));
        assert_eq!(seen.ids.len(), 1);
    }
}
