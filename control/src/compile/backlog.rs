//! What was told by the outbox and is not compiled yet. Publishes may be dear, and their tenants decide
//! how dear; everything else, revocations among it, is cheap and never waits for more than a few of
//! them.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use imp_core::ProductPublishId;
use imp_store::outbox::Subject;

/// Publishes are compiled in portions of about this long, between which the outbox is looked at.
const PORTION: Duration = Duration::from_millis(10);

/// The most publishes of a portion: the first of many may be cheap, and the next ones dear.
const MOST: usize = 16;

/// Subjects that wait. Their order means nothing (see [`super`]), and what comes twice waits once.
#[derive(Debug)]
pub(super) struct Backlog {
    cheap: Vec<Subject>,
    publishes: VecDeque<ProductPublishId>,
    waiting: HashSet<ProductPublishId>,
    /// How many publishes are a portion, as the last ones were.
    portion: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { cheap: Vec::new(), publishes: VecDeque::new(), waiting: HashSet::new(), portion: 1 }
    }
}

impl Backlog {
    pub(super) fn add(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            match subject {
                Subject::ProductPublish(id) if self.waiting.insert(id) => {
                    self.publishes.push_back(id);
                }
                Subject::ProductPublish(_) => {}
                other => self.cheap.push(other),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cheap.is_empty() && self.publishes.is_empty()
    }

    /// What to compile next; it no longer waits.
    pub(super) fn take(&mut self) -> Vec<Subject> {
        if !self.cheap.is_empty() {
            return std::mem::take(&mut self.cheap);
        }
        let portion = self.publishes.len().min(self.portion);
        let taken: Vec<_> = self.publishes.drain(..portion).collect();
        for id in &taken {
            self.waiting.remove(id);
        }
        taken.into_iter().map(Subject::ProductPublish).collect()
    }

    /// So many publishes took so long: the next portion is smaller or larger by that.
    pub(super) fn took(&mut self, publishes: usize, time: Duration) {
        if time > PORTION {
            self.portion = (publishes / 2).max(1);
        } else if publishes >= self.portion && time < PORTION / 2 {
            self.portion = (self.portion * 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use imp_core::CredentialId;

    use super::*;

    fn publish() -> Subject {
        Subject::ProductPublish(ProductPublishId::new())
    }

    #[test]
    fn a_revocation_overtakes_the_publishes_that_wait() {
        let revocation = Subject::Credential(CredentialId::new());
        let mut backlog = Backlog::default();
        backlog.add([publish(), publish(), revocation]);
        assert_eq!(backlog.take(), [revocation]);
        assert_eq!([backlog.take().len(), backlog.take().len()], [1, 1]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn dear_publishes_come_one_by_one_and_cheap_ones_together_again() {
        let mut backlog = Backlog::default();
        backlog.add((0..100).map(|_| publish()));
        let mut sizes = |time: Duration, rounds| {
            let round = |_| {
                let taken = backlog.take().len();
                backlog.took(taken, time);
                taken
            };
            (0..rounds).map(round).collect::<Vec<_>>()
        };
        assert_eq!(sizes(PORTION / 4, 6), [1, 2, 4, 8, 16, 16]);
        assert_eq!(sizes(PORTION * 2, 6), [16, 8, 4, 2, 1, 1]);
    }

    #[test]
    fn who_publishes_again_and_again_waits_once() {
        let (again, other) = (publish(), publish());
        let mut backlog = Backlog::default();
        backlog.add([again, again, other, again]);
        assert_eq!([backlog.take(), backlog.take()], [[again], [other]]);
        backlog.add([again]);
        assert_eq!(backlog.take(), [again], "what comes later counts");
    }
}
