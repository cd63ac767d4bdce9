//! What was told by the outbox and is not compiled yet, and what comes next.
//!
//! Publishes may be dear, and their tenants decide how dear: to compile, to send, to render, to apply in
//! Envoy. Everything else, revocations among it, is cheap and waits for a portion of them at most; so do
//! publishes that are to be closed, and those that are not known as dear. Behind each dear one there is a
//! rest, so that a tenant who redeploys all the time takes a bounded share of everybody's time.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use imp_core::ProductPublishId;
use imp_store::outbox::Subject;
use tokio::time::Instant;

/// Publishes are compiled in portions of about this long, between which the outbox is looked at.
const PORTION: Duration = Duration::from_millis(10);

/// The most publishes of a portion: the first of many may be cheap, and the next ones dear.
const MOST: usize = 16;

/// A publish of more bytes is dear. What Envoy gets of it may be a hundred times as much.
pub(super) const DEAR: usize = 32 << 10;

/// A dear publish is followed by a rest of so many times what it took: agents take some twice as long
/// for it, Envoys four times, and most of the time shall be others'.
const REST: u32 = 12;

/// Whatever it took.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Subjects that wait. Their order means nothing (see [`super`]), and what comes twice waits once.
#[derive(Debug)]
pub(super) struct Backlog {
    cheap: Vec<Subject>,
    publishes: VecDeque<ProductPublishId>,
    dear: VecDeque<ProductPublishId>,
    waiting: HashSet<ProductPublishId>,
    /// Were dear when they were compiled last.
    known_dear: HashSet<ProductPublishId>,
    /// What was taken last was cheap.
    cheap_last: bool,
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
            cheap_last: false,
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

    /// Dear publishes that wait and are among these subjects.
    pub(super) fn dear_among(&self, subjects: &[Subject]) -> Vec<ProductPublishId> {
        let dear = |subject: &Subject| match subject {
            Subject::ProductPublish(id) if self.known_dear.contains(id) => Some(*id),
            _ => None,
        };
        subjects.iter().filter_map(dear).collect()
    }

    /// This one is to be closed: nobody waits for less than that.
    pub(super) fn hurry(&mut self, id: ProductPublishId) {
        if let Some(place) = self.dear.iter().position(|waiting| *waiting == id) {
            self.dear.remove(place);
            self.publishes.push_front(id);
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
        // In turns: who issues keys all the time must not keep publishes from being compiled.
        let publishes = if self.cheap.is_empty() || self.cheap_last {
            self.take_publishes(now)
        } else {
            Vec::new()
        };
        self.cheap_last = publishes.is_empty();
        if publishes.is_empty() {
            return std::mem::take(&mut self.cheap);
        }
        for id in &publishes {
            self.waiting.remove(id);
        }
        publishes.into_iter().map(Subject::ProductPublish).collect()
    }

    fn take_publishes(&mut self, now: Instant) -> Vec<ProductPublishId> {
        if !self.publishes.is_empty() {
            let portion = self.publishes.len().min(self.portion);
            return self.publishes.drain(..portion).collect();
        }
        let rests = self.rest_until.is_some_and(|until| now < until);
        let one = if rests { None } else { self.dear.pop_front() };
        one.into_iter().collect()
    }

    /// Whether some of it was dear when it was compiled last.
    pub(super) fn is_dear(&self, taken: &[Subject]) -> bool {
        !self.dear_among(taken).is_empty()
    }

    /// What was taken has been compiled and took so long; these publishes of it are dear.
    pub(super) fn took(
        &mut self,
        taken: &[Subject],
        dear: &[ProductPublishId],
        time: Duration,
        now: Instant,
    ) {
        for subject in taken {
            if let Subject::ProductPublish(id) = subject {
                self.known_dear.remove(id);
            }
        }
        self.known_dear.extend(dear);
        if !dear.is_empty() {
            self.rest_until = Some(now + (time * REST).min(LONGEST_REST));
        }
        if !matches!(taken, [Subject::ProductPublish(_), ..]) {
            return;
        }
        if time > PORTION {
            self.portion = 1;
        } else if taken.len() >= self.portion && time < PORTION / 2 {
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

    fn publish() -> (ProductPublishId, Subject) {
        let id = ProductPublishId::new();
        (id, Subject::ProductPublish(id))
    }

    #[test]
    fn a_revocation_overtakes_the_publishes_that_wait_and_does_not_starve_them() {
        let now = Instant::now();
        let revocation = || Subject::Credential(CredentialId::new());
        let (one, other) = (publish().1, publish().1);
        let mut backlog = Backlog::default();
        let (first, second, third) = (revocation(), revocation(), revocation());
        backlog.add([one, other, first]);
        assert_eq!(backlog.take(now), [first]);
        backlog.add([second]);
        assert_eq!(backlog.take(now), [one]);
        backlog.add([third]);
        assert_eq!([backlog.take(now), backlog.take(now)], [vec![second, third], vec![other]]);
        assert_eq!(backlog.due(now), None);
        assert_eq!(backlog.take(now), []);
    }

    #[test]
    fn cheap_publishes_come_in_portions_that_grow() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        backlog.add((0..100).map(|_| publish().1));
        let mut sizes = |time, rounds| {
            let round = |_| {
                let taken = backlog.take(now);
                backlog.took(&taken, &[], time, now);
                taken.len()
            };
            (0..rounds).map(round).collect::<Vec<_>>()
        };
        assert_eq!(sizes(SHORT, 6), [1, 2, 4, 8, 16, 16]);
        assert_eq!(sizes(LONG, 3), [16, 1, 1]);
    }

    #[test]
    fn behind_a_dear_publish_there_is_a_rest_which_others_do_not_have_to_wait_for() {
        let (mut now, (id, dear), other) = (Instant::now(), publish(), publish().1);
        let mut backlog = Backlog::default();
        backlog.add([dear]);
        let taken = backlog.take(now);
        backlog.took(&taken, &[id], LONG, now);
        backlog.add([dear, other]);
        assert_eq!((backlog.due(now), backlog.take(now)), (Some(now), vec![other]));
        let rested = now + LONG * REST;
        assert_eq!((backlog.due(now), backlog.take(now)), (Some(rested), vec![]));
        now = rested;
        assert_eq!(backlog.take(now), [dear]);
        assert!(backlog.is_dear(&[dear]) && !backlog.is_dear(&[other]));
        // It has become small: from now on it is like others.
        backlog.took(&[dear], &[], SHORT, now);
        assert!(!backlog.is_dear(&[dear]));
    }

    #[test]
    fn a_dear_publish_that_is_to_be_closed_does_not_wait_its_turn() {
        let (now, (id, dear), (other, last)) = (Instant::now(), publish(), publish());
        let mut backlog = Backlog::default();
        backlog.took(&[], &[id, other], LONG, now);
        backlog.add([last, dear]);
        assert_eq!(backlog.dear_among(&[dear]), [id]);
        assert_eq!(backlog.take(now), [], "they rest");
        backlog.hurry(id);
        assert_eq!(backlog.take(now), [dear]);
        assert_eq!(backlog.take(now), []);
    }

    #[test]
    fn who_publishes_again_and_again_waits_once() {
        let (now, again, other) = (Instant::now(), publish().1, publish().1);
        let mut backlog = Backlog::default();
        backlog.add([again, again, other, again]);
        assert_eq!([backlog.take(now), backlog.take(now)], [[again], [other]]);
        backlog.add([again]);
        assert_eq!(backlog.take(now), [again], "what comes later counts");
    }
}
