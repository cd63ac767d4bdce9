//! Subjects from the outbox that are not compiled yet, and which of them are next.
//!
//! Publishes can be expensive to compile, send, render and apply in Envoy, and their tenants decide
//! how expensive. Everything else, revocations included, is cheap and waits for at most one portion
//! of publishes; so do publishes that are being closed and those not known as expensive. A rest
//! follows each expensive one, so that a tenant who redeploys all the time takes a bounded share of
//! everybody's time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use imp_core::{ProductPublishId, TenantId};
use imp_store::outbox::Subject;
use tokio::time::Instant;

/// The target duration of one portion; the outbox is read between portions.
const PORTION: Duration = Duration::from_millis(10);

/// The most publishes in a portion: the first ones may be cheap and the next ones expensive.
const MOST: usize = 16;

/// A publish of more bytes counts as expensive. Envoy's configuration for it can be a hundred times
/// as large.
pub(super) const DEAR: usize = 32 << 10;

/// The rest after an expensive publish, as a multiple of its compile time: agents need about twice
/// that time, Envoys four times, and most of the time must remain for others.
const REST: u32 = 8;

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The subjects that wait. Their order has no meaning (see [`super`]); duplicates wait once.
#[derive(Debug)]
pub(super) struct Backlog {
    cheap: Vec<Subject>,
    publishes: VecDeque<ProductPublishId>,
    dear: Dear,
    waiting: HashSet<ProductPublishId>,
    /// Publishes that were expensive when last compiled, with their tenants.
    known_dear: HashMap<ProductPublishId, TenantId>,
    /// Whether the last portion was of cheap subjects.
    cheap_last: bool,
    /// Whether the last portion was of expensive publishes.
    dear_last: bool,
    /// The current number of publishes per portion, adapted to how long the last ones took.
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

/// Expensive publishes that wait. Tenants take turns, so that none waits for all of another's.
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

    /// Counts the waiting expensive publishes among these subjects.
    pub(super) fn dear_among(&self, subjects: &[Subject]) -> Vec<ProductPublishId> {
        let dear = |subject: &Subject| match subject {
            Subject::ProductPublish(id) if self.known_dear.contains_key(id) => Some(*id),
            _ => None,
        };
        subjects.iter().filter_map(dear).collect()
    }

    /// Moves a publish that is being closed in front of the others, because closing must not wait.
    pub(super) fn hurry(&mut self, id: ProductPublishId) {
        let tenant = self.known_dear.get(&id);
        if tenant.is_some_and(|tenant| self.dear.remove(*tenant, id)) {
            self.publishes.push_front(id);
        }
    }

    /// When there is something to compile; `None` if nothing waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.cheap.is_empty() || !self.publishes.is_empty() {
            return Some(now);
        }
        let rested = self.rest_until.map_or(now, |until| until.max(now));
        (!self.dear.is_empty()).then_some(rested)
    }

    /// Takes the subjects to compile now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Subject> {
        // Alternate, so that a tenant who issues keys all the time cannot starve publishes.
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
        // One per rest, before the others.
        let rests = self.rest_until.is_some_and(|until| now < until);
        let dear = if rests { None } else { self.dear.next() };
        self.dear_last = dear.is_some();
        if let Some(one) = dear {
            return vec![one];
        }
        let portion = self.publishes.len().min(self.portion);
        self.publishes.drain(..portion).collect()
    }

    /// Whether one of them was expensive when last compiled.
    pub(super) fn is_dear(&self, taken: &[Subject]) -> bool {
        !self.dear_among(taken).is_empty()
    }

    /// Records how long a portion took and which of its publishes were expensive.
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
        // Publishes that only now turn out to be expensive do not extend the rest, or they could
        // starve the ones that wait.
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
        // It has become small and is treated like any other from now on.
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
        // Created and deleted all the time: each one is new.
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
