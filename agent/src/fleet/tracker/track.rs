//! The state of one publish, and the status that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imp_proto::agent as pb;

use super::ROUND;
use super::conditions::Conditions;
use super::target::{Target, TargetId};

/// One per publish, so it is small: what most publishes lack is behind a pointer.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) gateway: Arc<str>,
    /// The wanted revision.
    pub(super) revision: u64,
    /// Since when it is wanted.
    pub(super) since: Duration,
    /// The revision that targets are sent, and their verdicts about it.
    pub(super) rendered: Option<u64>,
    pub(super) said: Verdicts,
    pub(super) acked_revision: u64,
    /// The rejection of `revision` by targets.
    pub(super) refused: Option<Box<Refusal>>,
    /// A later revision that the agent itself rejected.
    pub(super) rejected: Option<Box<(u64, pb::PublishError)>>,
    /// Why it is not served at all of its hosts.
    pub(super) misplaced: Option<Box<pb::PublishError>>,
    /// What else there is to say; most publishes have nothing.
    pub(super) conditions: Option<Box<Conditions>>,
    /// `None` if it was never settled.
    pub(super) status: Option<Status>,
    /// Whether it is among those that wait for answers.
    pub(super) waits: bool,
    /// Whether its status is what Gateway API's controllers say of it. Envoys may have it, too.
    pub(super) by_gateway_api: bool,
}

/// A status without the publish's id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status {
    revision: u64,
    acked_revision: u64,
    acked: u32,
    nacked: u32,
    behind: u32,
    silent: u32,
    error: Option<Box<pb::PublishError>>,
    conditions: Option<Box<Conditions>>,
}

impl Status {
    /// Whether every target has answered, or one rejected it.
    pub(super) fn is_verdict(&self) -> bool {
        self.behind <= self.silent || self.error.is_some()
    }

    pub(super) fn of(&self, id: &str) -> pb::PublishStatus {
        pb::PublishStatus {
            publish_id: id.to_owned(),
            revision: self.revision,
            acked_revision: self.acked_revision,
            nodes_acked: self.acked,
            nodes_nacked: self.nacked,
            nodes_behind: self.behind,
            nodes_silent: self.silent,
            error: self.error.as_deref().cloned(),
            conditions: self.conditions.as_ref().map(|all| all.list()).unwrap_or_default(),
        }
    }
}

/// The targets' verdicts about one publish, by target.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    sorted: Vec<(TargetId, Said)>,
}

impl Verdicts {
    pub(super) fn get(&self, target: TargetId) -> Option<&Said> {
        let place = self.place(target).ok()?;
        self.sorted.get(place).map(|(_, said)| said)
    }

    pub(super) fn set(&mut self, target: TargetId, said: Option<Said>) {
        match (self.place(target), said) {
            (Ok(place), Some(said)) => {
                self.sorted.get_mut(place).into_iter().for_each(|it| it.1 = said.clone());
            }
            (Ok(place), None) => drop(self.sorted.remove(place)),
            (Err(place), Some(said)) => {
                // Most publishes have one or two.
                self.sorted.reserve_exact(1);
                self.sorted.insert(place, (target, said));
            }
            (Err(_), None) => {}
        }
    }

    pub(super) fn clear(&mut self) {
        self.sorted.clear();
    }

    fn place(&self, target: TargetId) -> Result<usize, usize> {
        self.sorted.binary_search_by_key(&target, |(target, _)| *target)
    }
}

/// A target's verdict about the rendered revision.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Accepted,
    Refused(Box<pb::PublishError>),
}

#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: pb::PublishError,
    /// Marks of targets, which survive a reconnect.
    pub(super) by: BTreeSet<String>,
}

/// The targets' verdicts about the rendered revision, counted.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) acked: u32,
    pub(super) nacked: u32,
    pub(super) behind: u32,
    /// How many of those behind are silent.
    pub(super) silent: u32,
    error: Option<Box<pb::PublishError>>,
}

impl Track {
    /// Whether the target serves it.
    pub(super) fn is_on(&self, target: &Target) -> bool {
        target.is_gateway_api == self.by_gateway_api && target.serves(&self.gateway)
    }

    pub(super) fn count(&self, targets: &BTreeMap<TargetId, Target>, now: Duration) -> Count {
        let mut count = Count::default();
        for (id, target) in targets.iter().filter(|(_, target)| self.is_on(target)) {
            match self.said.get(*id) {
                Some(Said::Accepted) => count.acked += 1,
                Some(Said::Refused(error)) => {
                    count.nacked += 1;
                    count.error.get_or_insert_with(|| error.clone());
                }
                None => {
                    count.behind += 1;
                    count.silent += u32::from(target.is_silent(self.since, now));
                }
            }
        }
        count
    }

    /// The earliest time at which a target that is behind may be silent, rounded down.
    pub(super) fn silent_at(
        &self,
        targets: &BTreeMap<TargetId, Target>,
        now: Duration,
    ) -> Duration {
        let behind = targets
            .iter()
            .filter(|(id, target)| self.is_on(target) && self.said.get(**id).is_none());
        let times = behind.map(|(_, target)| target.silent_at(self.since));
        let at = times.filter(|at| *at > now).min().unwrap_or(now);
        let rest = at.as_nanos() % ROUND.as_nanos();
        at.saturating_sub(Duration::from_nanos(u64::try_from(rest).unwrap_or_default()))
    }

    /// Raises the acknowledged revision. A target that is only catching up does not lower it. One
    /// that rejects what another accepted, or is silent, does not hold it up.
    pub(super) fn latch(&mut self, count: &Count) {
        match self.rendered {
            Some(revision) if count.acked > 0 && count.behind <= count.silent => {
                self.acked_revision = revision;
            }
            None if self.refusal().is_some() => self.acked_revision = 0,
            _ => {}
        }
    }

    /// The rejection by Envoys, if it is theirs to decide.
    fn refusal(&self) -> Option<&Refusal> {
        self.refused.as_deref().filter(|_| !self.by_gateway_api)
    }

    pub(super) fn status(&self, count: Count, targets: &BTreeMap<TargetId, Target>) -> Status {
        let mut status = Status {
            revision: self.revision,
            acked_revision: self.acked_revision,
            acked: count.acked,
            nacked: count.nacked,
            behind: count.behind,
            silent: count.silent,
            error: count.error,
            conditions: self.conditions.clone(),
        };
        // The counts above are about the revision that serves instead.
        if let Some(refusal) = self.refusal() {
            let of_gateway = targets.values().filter(|target| self.is_on(target));
            let (by, others): (Vec<_>, Vec<_>) =
                of_gateway.partition(|target| refusal.by.contains(&target.mark()));
            let number = |list: Vec<_>| u32::try_from(list.len()).unwrap_or(u32::MAX);
            status.acked = 0;
            status.nacked = number(by);
            (status.behind, status.silent) = (number(others), 0);
            status.error = Some(Box::new(refusal.error.clone()));
        }
        if let Some(error) = &self.misplaced {
            status.error = Some(error.clone());
        }
        if let Some(rejected) = &self.rejected {
            status.revision = rejected.0;
            status.error = Some(Box::new(rejected.1.clone()));
        }
        status
    }
}
