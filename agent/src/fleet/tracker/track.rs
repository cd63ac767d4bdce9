//! The state of one publish, and the status that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imp_proto::agent as pb;

use super::target::{Target, TargetId};

#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) gateway: String,
    /// The wanted revision.
    pub(super) revision: u64,
    /// Since when it is wanted.
    pub(super) since: Duration,
    /// The revision that targets are sent, and their verdicts about it.
    pub(super) rendered: Option<u64>,
    pub(super) said: BTreeMap<TargetId, Said>,
    pub(super) acked_revision: u64,
    /// The rejection of `revision` by targets.
    pub(super) refused: Option<Refusal>,
    /// A later revision that the agent itself rejected.
    pub(super) rejected: Option<(u64, pb::PublishError)>,
    /// Why it is not served at all of its hosts.
    pub(super) misplaced: Option<pb::PublishError>,
    pub(super) status: pb::PublishStatus,
}

/// A target's verdict about the rendered revision.
#[derive(Debug, PartialEq)]
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
    error: Option<pb::PublishError>,
}

impl Track {
    pub(super) fn count(&self, targets: &BTreeMap<TargetId, Target>, now: Duration) -> Count {
        let mut count = Count::default();
        for (id, target) in targets.iter().filter(|(_, target)| target.serves(&self.gateway)) {
            match self.said.get(id) {
                Some(Said::Accepted) => count.acked += 1,
                Some(Said::Refused(error)) => {
                    count.nacked += 1;
                    count.error.get_or_insert_with(|| (**error).clone());
                }
                None => {
                    count.behind += 1;
                    count.silent += u32::from(target.is_silent(self.since, now));
                }
            }
        }
        count
    }

    /// Raises the acknowledged revision. A target that is only catching up does not lower it. One
    /// that rejects what another accepted, or is silent, does not hold it up.
    pub(super) fn latch(&mut self, count: &Count) {
        match self.rendered {
            Some(revision) if count.acked > 0 && count.behind <= count.silent => {
                self.acked_revision = revision;
            }
            None if self.refused.is_some() => self.acked_revision = 0,
            _ => {}
        }
    }

    pub(super) fn status(
        &self,
        id: &str,
        count: Count,
        targets: &BTreeMap<TargetId, Target>,
    ) -> pb::PublishStatus {
        let mut status = pb::PublishStatus {
            publish_id: id.to_owned(),
            revision: self.revision,
            acked_revision: self.acked_revision,
            nodes_acked: count.acked,
            nodes_nacked: count.nacked,
            nodes_behind: count.behind,
            nodes_silent: count.silent,
            error: count.error,
        };
        // The counts above are about the revision that serves instead.
        if let Some(refusal) = &self.refused {
            let of_gateway = targets.values().filter(|target| target.serves(&self.gateway));
            let (by, others): (Vec<_>, Vec<_>) =
                of_gateway.partition(|target| refusal.by.contains(&target.mark()));
            let number = |list: Vec<_>| u32::try_from(list.len()).unwrap_or(u32::MAX);
            status.nodes_acked = 0;
            status.nodes_nacked = number(by);
            (status.nodes_behind, status.nodes_silent) = (number(others), 0);
            status.error = Some(refusal.error.clone());
        }
        if let Some(error) = &self.misplaced {
            status.error = Some(error.clone());
        }
        if let Some((revision, error)) = &self.rejected {
            status.revision = *revision;
            status.error = Some(error.clone());
        }
        status
    }
}
