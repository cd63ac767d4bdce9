//! Guards against a resource set that shrinks suddenly.
//!
//! A control plane with an empty or old database tells its agents to remove what they serve, in
//! well-formed messages. If one message removes a large part of the publishes, they are held back
//! until the operator accepts the removal. Large removals of other types wait for a moment: they
//! are held back if the publishes are, and applied otherwise.
//!
//! Only removals are held back. Additions and changes are applied; a revoked key or a suspended
//! publish is a change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imp_proto::config::ResourceType;
use tokio::time::Instant;

use crate::intake::is_rendered;

/// This many of a kind may always be removed together: a small resource set is deleted by hand.
const FLOOR: usize = 10;

/// A larger percentage is not removed without acceptance.
const PERCENT: usize = 30;

/// Removals that belong to a loss of publishes arrive within this time of it.
const WINDOW: Duration = Duration::from_secs(2);

/// The longest that removed keys wait, however busy the publishes are.
const LONGEST: Duration = Duration::from_secs(30);

/// How long the operator's acceptance is valid.
const ACCEPTED_FOR: Duration = Duration::from_secs(60);

/// The removals that are held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Withheld {
    /// Gateways and publishes that the control plane no longer has.
    pub removals: usize,
    /// The number of publishes held before.
    pub held: usize,
}

/// Names by kind.
pub(super) type Names = BTreeMap<ResourceType, BTreeSet<String>>;

/// Decides about removals.
#[derive(Debug, Default)]
pub(super) struct ShrinkGuard {
    withheld: Names,
    /// The number of publishes held at the decision.
    before: usize,
    /// A new stream has begun and has not yet confirmed the removals.
    is_stale: bool,
    /// Removals that wait for the decision about the publishes.
    pending: Names,
    pending_since: Option<Instant>,
    /// When publishes or gateways last arrived or were applied.
    active_at: Option<Instant>,
    /// Messages of publishes or gateways that arrived and are not applied yet. The sender sends the
    /// removals of a type after the answer to these, but those of keys at once.
    under_way: usize,
    /// The operator accepts this many removals, until then.
    accepted: Option<(usize, Instant)>,
}

/// The content of a message.
pub(super) struct Heard<'a> {
    pub(super) kind: ResourceType,
    pub(super) upserts: Vec<&'a str>,
    pub(super) removals: Vec<String>,
    /// The number held of this kind.
    pub(super) held: usize,
    /// The number of publishes held.
    pub(super) publishes: usize,
    pub(super) now: Instant,
}

impl ShrinkGuard {
    /// Begins a stream, which repeats all removals.
    pub(super) fn begin(&mut self, now: Instant) {
        self.is_stale = true;
        self.pending = Names::new();
        self.pending_since = None;
        self.active_at = Some(now);
        self.under_way = 0;
    }

    /// Returns the removals to apply now.
    pub(super) fn hear(&mut self, heard: Heard<'_>) -> Vec<String> {
        let Heard { kind, upserts, removals, held, publishes, now } = heard;
        for names in [&mut self.withheld, &mut self.pending] {
            let Some(names) = names.get_mut(&kind) else { continue };
            for name in &upserts {
                names.remove(*name);
            }
        }
        if is_rendered(kind) {
            self.active_at = Some(now);
            self.under_way += 1;
        }
        self.release_what_is_restored(now);
        if removals.is_empty() || kind == ResourceType::Publish && self.spend(removals.len(), now) {
            return removals;
        }
        let gone = removals.len();
        // Nothing of a small resource set is held back, so nothing has to wait either.
        let is_small = publishes <= FLOOR && self.before == 0;
        let is_sudden = !is_small
            && match kind {
                ResourceType::Publish => is_sharp(gone, held),
                // All publishes of a gateway are removed with it.
                ResourceType::Gateway => is_much(gone, held),
                ResourceType::Entitlement | ResourceType::Credential => {
                    let is_rest = gone >= held && held > 1;
                    let may_shrink = self.before > 0 || self.is_stale && self.under_way > 0;
                    is_sharp(gone, held) || is_rest || may_shrink && is_much(gone, held)
                }
            };
        if kind == ResourceType::Publish && is_sudden {
            self.withhold(removals, held);
            return Vec::new();
        }
        if is_sudden || self.pending.contains_key(&kind) {
            self.pending.entry(kind).or_default().extend(removals);
            self.pending_since.get_or_insert(now);
            return Vec::new();
        }
        removals
    }

    fn withhold(&mut self, publishes: Vec<String>, before: usize) {
        if std::mem::take(&mut self.is_stale) {
            self.withheld.clear();
        }
        self.before = before;
        self.withheld.entry(ResourceType::Publish).or_default().extend(publishes);
    }

    /// Whether the operator has accepted this many removals.
    fn spend(&mut self, count: usize, now: Instant) -> bool {
        let left = self.accepted.filter(|(_, until)| now < *until);
        let left = left.and_then(|(most, until)| Some((most.checked_sub(count)?, until)));
        self.accepted = left.or(self.accepted);
        left.is_some()
    }

    /// Releases held-back removals when the control plane has most of it again: the rest was
    /// removed by hand.
    fn release_what_is_restored(&mut self, now: Instant) {
        let left = self.withheld.get(&ResourceType::Publish).map_or(0, BTreeSet::len);
        if self.before == 0 || self.is_stale || is_sharp(left, self.before) {
            return;
        }
        self.before = 0;
        for (kind, names) in std::mem::take(&mut self.withheld) {
            self.pending.entry(kind).or_default().extend(names);
        }
        self.pending_since.get_or_insert(now);
    }

    /// Records that a message of gateways or publishes was applied.
    pub(super) fn applied(&mut self, now: Instant) {
        self.active_at = Some(now);
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// When to call [`Self::settle`]; `None` if nothing waits.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        if self.pending.is_empty() && !self.is_stale {
            return None;
        }
        let calm = self.active_at? + if self.under_way > 0 { LONGEST } else { WINDOW };
        Some(self.pending_since.map_or(calm, |since| calm.max(since + WINDOW).min(since + LONGEST)))
    }

    /// Decides about what waits, after enough time to know what belongs together. Returns what to
    /// apply.
    pub(super) fn settle(&mut self) -> Names {
        if std::mem::take(&mut self.is_stale) {
            self.withheld.clear();
            self.before = 0;
        }
        self.pending_since = None;
        let pending = std::mem::take(&mut self.pending);
        if self.before == 0 {
            let of_publishes = [ResourceType::Gateway, ResourceType::Publish].into_iter();
            self.under_way += of_publishes.filter(|kind| pending.contains_key(kind)).count();
            return pending;
        }
        for (kind, names) in pending {
            self.withheld.entry(kind).or_default().extend(names);
        }
        Names::new()
    }

    /// Accepts the removal of up to this many gateways and publishes.
    pub(super) fn accept(&mut self, most: usize, now: Instant) {
        self.accepted = Some((most, now + ACCEPTED_FOR));
    }

    /// What is held back now.
    pub(super) fn withheld(&self) -> Withheld {
        let of = |kind| self.withheld.get(&kind).map_or(0, BTreeSet::len);
        Withheld {
            removals: of(ResourceType::Gateway) + of(ResourceType::Publish),
            held: self.before,
        }
    }
}

fn is_sharp(gone: usize, held: usize) -> bool {
    gone > FLOOR && is_much(gone, held)
}

fn is_much(gone: usize, held: usize) -> bool {
    gone.saturating_mul(100) > held.saturating_mul(PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        guard: ShrinkGuard,
        now: Instant,
        publishes: usize,
    }

    impl Rig {
        fn new() -> Self {
            Self { guard: ShrinkGuard::default(), now: Instant::now(), publishes: 100 }
        }

        /// Removes this many of a kind. Returns how many are applied at once.
        fn remove(
            &mut self,
            kind: ResourceType,
            gone: std::ops::Range<usize>,
            held: usize,
        ) -> usize {
            let removals = gone.map(|number| number.to_string()).collect();
            let (now, upserts) = (self.now, Vec::new());
            let publishes = if kind == ResourceType::Publish { held } else { self.publishes };
            let heard = Heard { kind, upserts, removals, held, publishes, now };
            let goes = self.guard.hear(heard).len();
            self.guard.under_way = 0;
            goes
        }

        /// The same while publishes are in work.
        fn remove_while_busy(&mut self, kind: ResourceType, gone: usize, held: usize) -> usize {
            let removals = (0..gone).map(|number| number.to_string()).collect();
            let (now, publishes, upserts) = (self.now, self.publishes, Vec::new());
            self.guard.hear(Heard { kind, upserts, removals, held, publishes, now }).len()
        }

        fn put(&mut self, kind: ResourceType, back: std::ops::Range<usize>) {
            let names: Vec<_> = back.map(|number| number.to_string()).collect();
            let upserts = names.iter().map(String::as_str).collect();
            let heard =
                Heard { kind, upserts, removals: Vec::new(), held: 0, publishes: 0, now: self.now };
            self.guard.hear(heard);
            self.guard.under_way = 0;
        }

        /// Decides about everything that waits. Returns how many are removed.
        fn settle(&mut self) -> usize {
            self.now = self.guard.settles_at().unwrap_or(self.now).max(self.now);
            self.guard.settle().values().map(BTreeSet::len).sum()
        }
    }

    #[test]
    fn a_part_may_go_and_a_larger_part_may_not() {
        for (held, gone, goes) in
            [(100, 30, true), (100, 31, false), (12, 10, true), (12, 11, false), (10, 10, true)]
        {
            let mut rig = Rig::new();
            let went = rig.remove(ResourceType::Publish, 0..gone, held);
            assert_eq!(went, if goes { gone } else { 0 }, "{gone} of {held}");
            assert_eq!(rig.guard.withheld().removals, gone - went);
        }
    }

    #[test]
    fn what_goes_one_by_one_goes() {
        let mut rig = Rig::new();
        for number in 0..100 {
            assert_eq!(rig.remove(ResourceType::Publish, number..number + 1, 100 - number), 1);
        }
    }

    #[test]
    fn keys_and_gateways_go_or_stay_with_the_publishes() {
        for lost in [true, false] {
            for publishes_first in [true, false] {
                let mut rig = Rig::new();
                let publishes = |rig: &mut Rig| {
                    assert_eq!(
                        rig.remove(ResourceType::Publish, 0..if lost { 50 } else { 1 }, 100),
                        if lost { 0 } else { 1 }
                    );
                };
                if publishes_first {
                    publishes(&mut rig);
                }
                assert_eq!(rig.remove(ResourceType::Credential, 0..900, 1_000), 0);
                assert_eq!(
                    rig.remove(ResourceType::Credential, 900..905, 1_000),
                    0,
                    "the same answer"
                );
                assert_eq!(rig.remove(ResourceType::Gateway, 0..1, 1), 0);
                if !publishes_first {
                    publishes(&mut rig);
                }
                assert_eq!(rig.settle(), if lost { 0 } else { 906 });
                assert_eq!(rig.guard.withheld().removals, if lost { 51 } else { 0 });
                // Later removals by hand are applied.
                rig.now += WINDOW;
                assert_eq!(rig.remove(ResourceType::Credential, 950..951, 1_000), 1);
                assert_eq!(rig.remove(ResourceType::Publish, 70..71, 100), 1);
            }
        }
    }

    #[test]
    fn few_keys_wait_only_when_all_go_or_publishes_are_held_back() {
        let mut rig = Rig::new();
        assert_eq!(rig.remove(ResourceType::Credential, 0..1, 1), 1);
        assert_eq!(rig.remove(ResourceType::Entitlement, 0..4, 5), 4);
        assert_eq!(rig.remove(ResourceType::Entitlement, 4..6, 2), 0, "all of them");
        assert_eq!(rig.settle(), 2);
        rig.remove(ResourceType::Publish, 0..50, 100);
        rig.now += WINDOW;
        assert_eq!(rig.remove(ResourceType::Credential, 1..5, 5), 0);
        assert_eq!(rig.settle(), 0);
        let mut small = Rig::new();
        small.publishes = FLOOR;
        assert_eq!(small.remove(ResourceType::Credential, 0..900, 900), 900);
        assert_eq!(small.remove(ResourceType::Gateway, 0..2, 2), 2);
    }

    #[test]
    fn keys_wait_until_publishes_are_calm_and_no_longer_than_a_time() {
        let mut rig = Rig::new();
        let begun = rig.now;
        rig.remove(ResourceType::Credential, 0..100, 100);
        for _ in 0..40 {
            rig.now += Duration::from_secs(1);
            rig.guard.applied(rig.now);
            let at = rig.guard.settles_at().unwrap();
            assert!(at > rig.now || rig.now >= begun + LONGEST);
            assert!(at <= begun + LONGEST);
        }
        assert_eq!(rig.settle(), 100);
        assert_eq!(rig.guard.settles_at(), None);
    }

    /// A sender sends the removed publishes after the answer to the changed ones.
    #[test]
    fn keys_wait_for_publishes_that_are_still_worked_on() {
        for (gone, held) in [(900, 1_000), (4, 10)] {
            let mut rig = Rig::new();
            rig.guard.begin(rig.now);
            let heard = Heard {
                kind: ResourceType::Publish,
                upserts: vec!["0"],
                removals: Vec::new(),
                held: 100,
                publishes: 100,
                now: rig.now,
            };
            rig.guard.hear(heard);
            assert_eq!(rig.remove_while_busy(ResourceType::Credential, gone, held), 0);
            rig.now += WINDOW * 3;
            assert!(rig.guard.settles_at().unwrap() > rig.now, "the publishes take their time");
            rig.guard.applied(rig.now);
            assert_eq!(rig.remove(ResourceType::Publish, 0..50, 100), 0);
            assert_eq!((rig.settle(), rig.guard.withheld().removals), (0, 50), "{gone} of {held}");
        }
    }

    #[test]
    fn what_comes_back_is_no_longer_held_back() {
        let mut rig = Rig::new();
        rig.remove(ResourceType::Publish, 0..40, 100);
        rig.put(ResourceType::Publish, 0..5);
        assert_eq!((rig.settle(), rig.guard.withheld().removals), (0, 35));
        rig.put(ResourceType::Publish, 5..15);
        assert_eq!((rig.settle(), rig.guard.withheld().removals), (25, 0), "25 of 100 may go");
    }

    #[test]
    fn a_new_stream_says_it_again_or_it_is_over() {
        let mut rig = Rig::new();
        rig.remove(ResourceType::Publish, 0..50, 100);
        rig.guard.begin(rig.now);
        assert_eq!(rig.guard.withheld().removals, 50, "not known yet");
        assert_eq!(rig.remove(ResourceType::Publish, 0..60, 100), 0);
        rig.settle();
        assert_eq!(rig.guard.withheld().removals, 60);
        rig.guard.begin(rig.now);
        assert_eq!((rig.settle(), rig.guard.withheld()), (0, Withheld::default()));
    }

    #[test]
    fn an_acceptance_is_for_a_number_and_for_a_time() {
        let mut rig = Rig::new();
        let mut answer = |accepted: Option<usize>, later: Duration| {
            accepted.into_iter().for_each(|most| rig.guard.accept(most, rig.now));
            rig.now += later;
            rig.guard.begin(rig.now);
            let gone = rig.remove(ResourceType::Publish, 0..50, 100);
            rig.settle();
            assert_eq!(rig.guard.withheld().removals, 50 - gone);
            gone
        };
        let at_once = Duration::from_millis(10);
        assert_eq!(answer(None, at_once), 0);
        assert_eq!(answer(Some(49), at_once), 0, "it shrank further since");
        assert_eq!(answer(Some(50), at_once), 50);
        assert_eq!(answer(None, at_once), 0, "once");
        assert_eq!(answer(Some(50), ACCEPTED_FOR), 0, "too late");
    }
}
