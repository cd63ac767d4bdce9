//! Which proofs of an agent were seen: each is good once. Kept for as long as a proof can be good, and
//! only of agents that proved to be one, so nobody else can fill it.

use std::collections::HashMap;

use imp_grammar::caps;
use imp_grammar::proof::TOLERANCE_MS;

/// An agent makes a few calls a minute; one in a loop that fails makes some hundred.
const MOST: usize = caps::AGENT_PROOFS.size();

/// A proof is good for as long as clocks may differ, before its time and after.
const KEPT_MS: i64 = 2 * TOLERANCE_MS + 1_000;

/// The proofs of one agent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// With the moment at which each can be forgotten.
    ids: HashMap<Box<str>, i64>,
}

/// Why a good proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It was taken before.
    Again,
    /// So many that they cannot be remembered.
    TooMany,
}

impl Seen {
    /// Takes a proof, once.
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
