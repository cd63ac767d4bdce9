//! What was told by the outbox and is not compiled yet, and what comes next.
//!
//! Publishes may be dear, and their tenants decide how dear: to compile, to send, to render, to apply in
//! Envoy. Everything else, revocations among it, is cheap and never waits for them; publishes that are
//! not known as dear go before those that are; and behind each dear one there is a rest, so that a
//! tenant who redeploys all the time takes a bounded share of everybody's time.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use imp_core::ProductPublishId;
use imp_store::outbox::Subject;
use tokio::time::Instant;

/// Publishes are compiled in portions of about this long, between which the outbox is looked at. One
/// that takes longer is dear.
const PORTION: Duration = Duration::from_millis(10);

/// The most publishes of a portion: the first of many may be cheap, and the next ones dear.
const MOST: usize = 16;

/// A dear publish is followed by a rest of so many times what it took: agents and Envoys take some
/// three times as long for it.
const REST: u32 = 3;

/// Whatever it took.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// Subjects that wait. Their order means nothing (see [`super`]), and what comes twice waits once.
#[derive(Debug)]
pub(super) struct Backlog {
    cheap: Vec<Subject>,
    publishes: VecDeque<ProductPublishId>,
    dear: VecDeque<ProductPublishId>,
    waiting: HashSet<ProductPublishId>,
    /// Took long when they were compiled last.
    known_dear: HashSet<ProductPublishId>,
    /// How many publishes are a portion, as the last ones were.
    portion: usize,
    rest_until: Option<Instant>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            cheap: Vec::new(),
            publishes: VecDeque::new(),
            dear: VecDeque::new(),
            waiting: HashSet::new(),
            known_dear: HashSet::new(),
            portion: 1,
            rest_until: None,
        }
    }
}

impl Backlog {
    pub(super) fn add(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            match subject {
                Subject::ProductPublish(id) if self.waiting.insert(id) => {
                    let dear = self.known_dear.contains(&id);
                    let queue = if dear { &mut self.dear } else { &mut self.publishes };
                    queue.push_back(id);
                }
                Subject::ProductPublish(_) => {}
                other => self.cheap.push(other),
            }
        }
    }

    /// When there is something to compile; None: nothing waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.cheap.is_empty() || !self.publishes.is_empty() {
            return Some(now);
        }
        let rested = self.rest_until.map_or(now, |until| until.max(now));
        (!self.dear.is_empty()).then_some(rested)
    }

    /// What to compile now; it no longer waits.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Subject> {
        if !self.cheap.is_empty() {
            return std::mem::take(&mut self.cheap);
        }
        let rests = self.rest_until.is_some_and(|until| now < until);
        let taken: Vec<_> = if !self.publishes.is_empty() {
            let portion = self.publishes.len().min(self.portion);
            self.publishes.drain(..portion).collect()
        } else if rests {
            Vec::new()
        } else {
            self.dear.pop_front().into_iter().collect()
        };
        for id in &taken {
            self.waiting.remove(id);
        }
        taken.into_iter().map(Subject::ProductPublish).collect()
    }

    /// Whether it took long when it was compiled last.
    pub(super) fn is_dear(&self, taken: &[Subject]) -> bool {
        let dear = |subject: &Subject| match subject {
            Subject::ProductPublish(id) => self.known_dear.contains(id),
            _ => false,
        };
        taken.iter().any(dear)
    }

    /// What was taken has been compiled, and took so long.
    pub(super) fn took(&mut self, taken: &[Subject], time: Duration, now: Instant) {
        let &[Subject::ProductPublish(first), ref others @ ..] = taken else { return };
        let is_long = time > PORTION;
        if !others.is_empty() {
            // Which of them it was shows when they come one by one.
            self.resize(taken.len(), time);
        } else if is_long {
            self.known_dear.insert(first);
            self.rest_until = Some(now + (time * REST).min(LONGEST_REST));
        } else if !self.known_dear.remove(&first) {
            self.resize(1, time);
        }
    }

    fn resize(&mut self, taken: usize, time: Duration) {
        if time > PORTION {
            self.portion = 1;
        } else if taken >= self.portion && time < PORTION / 2 {
            self.portion = (self.portion * 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use imp_core::CredentialId;

    use super::*;

    const LONG: Duration = Duration::from_millis(40);
    const SHORT: Duration = Duration::from_millis(1);

    fn publish() -> Subject {
        Subject::ProductPublish(ProductPublishId::new())
    }

    #[test]
    fn a_revocation_overtakes_the_publishes_that_wait() {
        let (now, revocation) = (Instant::now(), Subject::Credential(CredentialId::new()));
        let mut backlog = Backlog::default();
        backlog.add([publish(), publish(), revocation]);
        assert_eq!(backlog.take(now), [revocation]);
        assert_eq!([backlog.take(now).len(), backlog.take(now).len()], [1, 1]);
        assert_eq!(backlog.due(now), None);
    }

    #[test]
    fn cheap_publishes_come_in_portions_that_grow() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        backlog.add((0..100).map(|_| publish()));
        let mut sizes = |time, rounds| {
            let round = |_| {
                let taken = backlog.take(now);
                backlog.took(&taken, time, now);
                taken.len()
            };
            (0..rounds).map(round).collect::<Vec<_>>()
        };
        assert_eq!(sizes(SHORT, 6), [1, 2, 4, 8, 16, 16]);
        assert_eq!(sizes(LONG, 3), [16, 1, 1]);
    }

    #[test]
    fn behind_a_dear_publish_there_is_a_rest_which_others_do_not_have_to_wait_for() {
        let (mut now, dear, other) = (Instant::now(), publish(), publish());
        let mut backlog = Backlog::default();
        backlog.add([dear]);
        let taken = backlog.take(now);
        backlog.took(&taken, LONG, now);
        backlog.add([dear, other]);
        assert_eq!((backlog.due(now), backlog.take(now)), (Some(now), vec![other]));
        let rested = now + LONG * REST;
        assert_eq!((backlog.due(now), backlog.take(now)), (Some(rested), vec![]));
        now = rested;
        assert_eq!(backlog.take(now), [dear]);
        assert!(backlog.is_dear(&[dear]) && !backlog.is_dear(&[other]));
        // It has become small: from now on it is like others.
        backlog.took(&[dear], SHORT, now);
        backlog.add([dear, other]);
        assert_eq!(backlog.take(now), [dear]);
    }

    #[test]
    fn who_publishes_again_and_again_waits_once() {
        let (now, again, other) = (Instant::now(), publish(), publish());
        let mut backlog = Backlog::default();
        backlog.add([again, again, other, again]);
        assert_eq!([backlog.take(now), backlog.take(now)], [[again], [other]]);
        backlog.add([again]);
        assert_eq!(backlog.take(now), [again], "what comes later counts");
    }
}
