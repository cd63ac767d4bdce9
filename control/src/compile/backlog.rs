//! What was told by the outbox and is not compiled yet, and what comes next.
//!
//! Publishes may be dear, and their tenants decide how dear: to compile, to send, to render, to apply in
//! Envoy. Everything else, revocations among it, is cheap and waits for a portion of them at most; so do
//! publishes that are to be closed, and those that are not known as dear. Behind each dear one there is a
//! rest, so that a tenant who redeploys all the time takes a bounded share of everybody's time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use imp_core::{ProductPublishId, TenantId};
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
const REST: u32 = 8;

/// Whatever it took.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Subjects that wait. Their order means nothing (see [`super`]), and what comes twice waits once.
#[derive(Debug)]
pub(super) struct Backlog {
    cheap: Vec<Subject>,
    publishes: VecDeque<ProductPublishId>,
    dear: Dear,
    waiting: HashSet<ProductPublishId>,
    /// Were dear when they were compiled last, and whose they are.
    known_dear: HashMap<ProductPublishId, TenantId>,
    /// What was taken last was cheap.
    cheap_last: bool,
    /// It was one of the dear publishes that waited.
    dear_last: bool,
    /// How many publishes are a portion, as the last ones were.
    portion: usize,
    rest_until: Option<Instant>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            cheap: Vec::new(),
            publishes: VecDeque::new(),
            dear: Dear::default(),
            waiting: HashSet::new(),
            known_dear: HashMap::new(),
            cheap_last: false,
            dear_last: false,
            portion: 1,
            rest_until: None,
        }
    }
}

/// Dear publishes that wait: tenants take turns, so that nobody waits for all that another has.
#[derive(Debug, Default)]
struct Dear {
    of: HashMap<TenantId, VecDeque<ProductPublishId>>,
    turns: VecDeque<TenantId>,
}

impl Dear {
    fn push(&mut self, tenant: TenantId, id: ProductPublishId) {
        let own = self.of.entry(tenant).or_default();
        if own.is_empty() {
            self.turns.push_back(tenant);
        }
        own.push_back(id);
    }

    fn next(&mut self) -> Option<ProductPublishId> {
        let tenant = self.turns.pop_front()?;
        let own = self.of.get_mut(&tenant)?;
        let next = own.pop_front();
        match own.is_empty() {
            true => drop(self.of.remove(&tenant)),
            false => self.turns.push_back(tenant),
        }
        next
    }

    fn remove(&mut self, tenant: TenantId, id: ProductPublishId) -> bool {
        let Some(own) = self.of.get_mut(&tenant) else { return false };
        let Some(place) = own.iter().position(|waiting| *waiting == id) else { return false };
        own.remove(place);
        if own.is_empty() {
            self.of.remove(&tenant);
            self.turns.retain(|waiting| *waiting != tenant);
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

impl Backlog {
    pub(super) fn add(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        for subject in subjects {
            match subject {
                Subject::ProductPublish(id) if self.waiting.insert(id) => {
                    match self.known_dear.get(&id) {
                        Some(tenant) => self.dear.push(*tenant, id),
                        None => self.publishes.push_back(id),
                    }
                }
                Subject::ProductPublish(_) => {}
                other => self.cheap.push(other),
            }
        }
    }

    /// Dear publishes that wait and are among these subjects.
    pub(super) fn dear_among(&self, subjects: &[Subject]) -> Vec<ProductPublishId> {
        let dear = |subject: &Subject| match subject {
            Subject::ProductPublish(id) if self.known_dear.contains_key(id) => Some(*id),
            _ => None,
        };
        subjects.iter().filter_map(dear).collect()
    }

    /// This one is to be closed: nobody waits for less than that.
    pub(super) fn hurry(&mut self, id: ProductPublishId) {
        let tenant = self.known_dear.get(&id);
        if tenant.is_some_and(|tenant| self.dear.remove(*tenant, id)) {
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
        // One per rest, and before the others.
        let rests = self.rest_until.is_some_and(|until| now < until);
        let dear = if rests { None } else { self.dear.next() };
        self.dear_last = dear.is_some();
        if let Some(one) = dear {
            return vec![one];
        }
        let portion = self.publishes.len().min(self.portion);
        self.publishes.drain(..portion).collect()
    }

    /// Whether some of it was dear when it was compiled last.
    pub(super) fn is_dear(&self, taken: &[Subject]) -> bool {
        !self.dear_among(taken).is_empty()
    }

    /// What was taken has been compiled and took so long; these publishes of it are dear.
    pub(super) fn took(
        &mut self,
        taken: &[Subject],
        dear: &[(ProductPublishId, TenantId)],
        time: Duration,
        now: Instant,
    ) {
        for subject in taken {
            if let Subject::ProductPublish(id) = subject {
                self.known_dear.remove(id);
            }
        }
        self.known_dear.extend(dear.iter().copied());
        // Publishes that are found to be dear only now make no rest longer for those that wait: they
        // would keep them from ever being compiled.
        let rests = self.rest_until.is_some_and(|until| now < until);
        if !dear.is_empty() && !rests && (self.dear_last || self.dear.is_empty()) {
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
        backlog.took(&taken, &[(id, TenantId::new())], LONG, now);
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
        let tenant = TenantId::new();
        backlog.took(&[], &[(id, tenant), (other, tenant)], LONG, now);
        backlog.add([last, dear]);
        assert_eq!(backlog.dear_among(&[dear]), [id]);
        assert_eq!(backlog.take(now), [], "they rest");
        backlog.hurry(id);
        assert_eq!(backlog.take(now), [dear]);
        assert_eq!(backlog.take(now), []);
    }

    #[test]
    fn dear_publishes_of_tenants_take_turns() {
        let (mut now, many, one) = (Instant::now(), TenantId::new(), TenantId::new());
        let mut backlog = Backlog::default();
        let theirs: Vec<_> = (0..5).map(|_| publish()).collect();
        let (id, mine) = publish();
        let known: Vec<_> = theirs.iter().map(|(id, _)| (*id, many)).chain([(id, one)]).collect();
        backlog.took(&[], &known, SHORT, now);
        backlog.add(theirs.iter().map(|(_, subject)| *subject).chain([mine]));
        let mut order = Vec::new();
        for _ in 0..6 {
            now += LONGEST_REST;
            order.extend(backlog.take(now));
        }
        assert_eq!((order.len(), order[1]), (6, mine), "second, not sixth");
        assert_eq!(backlog.due(now), None);
    }

    #[test]
    fn publishes_that_are_found_to_be_dear_do_not_keep_others_from_being_compiled() {
        let (mut now, (id, mine)) = (Instant::now(), publish());
        let mut backlog = Backlog::default();
        backlog.took(&[], &[(id, TenantId::new())], LONG, now);
        backlog.add([mine]);
        // Made and taken away all the time: each is new.
        for _ in 0..100 {
            let (new, subject) = publish();
            backlog.add([subject]);
            let taken = backlog.take(now);
            if taken == [mine] {
                return;
            }
            now += LONG;
            backlog.took(&taken, &[(new, TenantId::new())], LONG, now);
            let more = backlog.take(now);
            if more == [mine] {
                return;
            }
        }
        panic!("it starves");
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
