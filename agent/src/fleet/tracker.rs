//! The status of each publish. Pure, and independent of xDS: its inputs are outcomes, which
//! `acknowledgements` derives from Envoys' answers.
//!
//! An outcome affects only its publish, so its cost does not grow with the number of publishes.
//! Statuses are level-triggered: a reader gets the current ones, however often they changed before.

mod refusals;
mod target;
mod track;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use imp_proto::agent as pb;

pub use target::{Target, TargetId};
use track::{Said, Track};

/// The outcome of a revision at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub publish: String,
    /// The revision; outcomes of others than the rendered one are ignored.
    pub revision: u64,
    pub target: TargetId,
    pub verdict: Verdict,
}

/// What a target did with a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has all of it.
    Accepted,
    /// It rejected it, or a part of it.
    Refused(Box<pb::PublishError>),
    /// It lacks a part of it.
    Gone,
}

/// The statuses of all publishes.
#[derive(Debug, Default)]
pub struct Tracker {
    targets: BTreeMap<TargetId, Target>,
    publishes: HashMap<String, Track>,
    by_gateway: HashMap<String, BTreeSet<String>>,
    /// Time since the start.
    now: Duration,
    /// Publishes that wait for a target's answer.
    waiting: BTreeSet<String>,
    /// Publishes that were rejected.
    refusals: BTreeSet<String>,
    /// Publishes whose status may have changed.
    touched: BTreeSet<String>,
    /// Publishes whose status has changed since it was last taken.
    changed: BTreeSet<String>,
}

impl Tracker {
    /// Adds a target.
    pub fn open(&mut self, id: TargetId, mut target: Target) {
        self.touch(self.served_by(&target));
        (target.came, target.heard) = (self.now, self.now);
        self.targets.insert(id, target);
    }

    /// Removes a target, which no longer counts.
    pub fn close(&mut self, id: TargetId) {
        let Some(target) = self.targets.remove(&id) else { return };
        let served = self.served_by(&target);
        for publish in &served {
            if let Some(track) = self.publishes.get_mut(publish) {
                track.said.remove(&id);
            }
        }
        self.touch(served);
    }

    /// A connected target.
    pub fn target(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(&id)
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        self.targets.iter().map(|(id, target)| (*id, target))
    }

    /// Records that a target sent something, so it is not silent.
    pub fn heard(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.heard = self.now;
        }
    }

    /// Takes the outcome of a revision. Ignored if the revision is not rendered, or the target does
    /// not serve the publish.
    pub fn take(&mut self, outcome: Outcome) {
        let Outcome { publish, revision, target, verdict } = outcome;
        let Some(track) = self.publishes.get_mut(&publish) else { return };
        let serves = self.targets.get(&target).is_some_and(|it| it.serves(&track.gateway));
        if track.rendered != Some(revision) || !serves {
            return;
        }
        let said = match verdict {
            Verdict::Accepted => Some(Said::Accepted),
            Verdict::Refused(error) => Some(Said::Refused(error)),
            Verdict::Gone => None,
        };
        if track.said.get(&target) == said.as_ref() {
            return;
        }
        match said {
            Some(said) => track.said.insert(target, said),
            None => track.said.remove(&target),
        };
        self.touched.insert(publish);
    }

    /// Sets the wanted revision.
    pub fn want(&mut self, id: &str, gateway: &str, revision: u64) {
        let track = self.publishes.entry(id.to_owned()).or_default();
        if track.gateway != gateway {
            if let Some(ids) = self.by_gateway.get_mut(&track.gateway) {
                ids.remove(id);
            }
            gateway.clone_into(&mut track.gateway);
            track.said.clear();
            self.by_gateway.entry(gateway.to_owned()).or_default().insert(id.to_owned());
        }
        if track.revision != revision {
            (track.revision, track.since) = (revision, self.now);
            track.refused = None;
            self.refusals.remove(id);
        }
        track.rejected = None;
        self.touched.insert(id.to_owned());
    }

    /// Sets the revision that targets are sent; `None` if nothing of the publish is.
    pub fn render(&mut self, id: &str, revision: Option<u64>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.rendered != revision {
            track.rendered = revision;
            track.said.clear();
            self.touched.insert(id.to_owned());
        }
    }

    /// Whether at least one connected target serves it, and all that do have all of the wanted
    /// revision.
    pub fn is_everywhere(&self, id: &str) -> bool {
        let Some(track) = self.publishes.get(id) else { return false };
        let count = track.count(&self.targets, self.now);
        track.rendered == Some(track.revision)
            && count.acked > 0
            && (count.nacked, count.behind) == (0, 0)
    }

    /// Advances the time: targets may have become silent.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        self.touched.append(&mut self.waiting);
    }

    /// Records that the agent itself could not accept a revision; the previous one stays.
    pub fn reject(&mut self, id: &str, revision: Option<u64>, error: pb::PublishError) {
        let track = self.publishes.entry(id.to_owned()).or_default();
        track.rejected = Some((revision.unwrap_or(track.revision), error));
        self.touched.insert(id.to_owned());
    }

    /// Restores the acknowledged revision after a restart: reconnecting targets do not lower it.
    pub fn resume(&mut self, id: &str, acked_revision: u64) {
        if let Some(track) = self.publishes.get_mut(id) {
            track.acked_revision = acked_revision;
            self.touched.insert(id.to_owned());
        }
    }

    /// Records whether it is served at all of its hosts; if not, why.
    pub fn place(&mut self, id: &str, misplaced: Option<pb::PublishError>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.misplaced != misplaced {
            track.misplaced = misplaced;
            self.touched.insert(id.to_owned());
        }
    }

    /// Removes a publish.
    pub fn remove(&mut self, id: &str) {
        if let Some(track) = self.publishes.remove(id)
            && let Some(ids) = self.by_gateway.get_mut(&track.gateway)
        {
            ids.remove(id);
        }
        for of in [&mut self.touched, &mut self.changed, &mut self.waiting, &mut self.refusals] {
            of.remove(id);
        }
    }

    /// Updates the statuses. Returns the publishes whose acknowledged revision changed.
    pub fn settle(&mut self) -> Vec<(String, u64)> {
        let mut acked = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(track) = self.publishes.get_mut(&id) else { continue };
            let count = track.count(&self.targets, self.now);
            if count.behind > count.silent {
                self.waiting.insert(id.clone());
            }
            let before = track.acked_revision;
            track.latch(&count);
            if track.acked_revision != before {
                acked.push((id.clone(), track.acked_revision));
            }
            let status = track.status(&id, count, &self.targets);
            if status != track.status {
                track.status = status;
                self.changed.insert(id);
            }
        }
        acked
    }

    /// The gateway of a publish.
    pub fn gateway_of(&self, id: &str) -> Option<&str> {
        self.publishes.get(id).map(|track| track.gateway.as_str())
    }

    /// Whether any status has not been taken yet.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether any status not yet taken is a verdict: every target has answered, or one rejected.
    pub fn has_verdict(&self) -> bool {
        let decided = |track: &Track| {
            track.status.nodes_behind <= track.status.nodes_silent || track.status.error.is_some()
        };
        self.changed.iter().filter_map(|id| self.publishes.get(id)).any(decided)
    }

    /// Takes at most `most` statuses that changed.
    pub fn take_changed(&mut self, most: usize) -> Vec<pb::PublishStatus> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(id) = self.changed.pop_first()
        {
            taken.extend(self.publishes.get(&id).map(|track| track.status.clone()));
        }
        taken
    }

    /// Marks all as changed.
    pub fn all_changed(&mut self) {
        self.changed = self.publishes.keys().cloned().collect();
    }

    /// The status of every publish.
    pub fn statuses(&self) -> Vec<pb::PublishStatus> {
        self.publishes.values().map(|track| track.status.clone()).collect()
    }

    fn served_by(&self, target: &Target) -> Vec<String> {
        match &target.gateway {
            Some(gateway) => self.by_gateway.get(gateway).into_iter().flatten().cloned().collect(),
            None => self.publishes.keys().cloned().collect(),
        }
    }

    fn touch(&mut self, ids: Vec<String>) {
        self.touched.extend(ids);
    }
}

/// The error for a publish that the agent could not accept.
pub fn agent_rejected(reason: &str) -> pb::PublishError {
    pb::PublishError {
        code: "agent_rejected".to_owned(),
        resource: String::new(),
        envoy_message: String::new(),
        hint: format!(
            "This agent cannot serve it: {reason}. Correct it and redeploy, or update the agent \
             when it is older than the control plane."
        ),
    }
}

/// The error for a gateway that the agent could not accept.
pub fn gateway_rejected(reason: &str) -> pb::PublishError {
    pb::PublishError {
        hint: format!(
            "This agent cannot serve the gateway: {reason}. Correct it, or update the agent when it \
             is older than the control plane."
        ),
        ..agent_rejected(reason)
    }
}

/// The error for a publish whose gateway the agent could not accept.
pub fn gateway_refused(gateway: &str, error: &pb::PublishError) -> pb::PublishError {
    pb::PublishError {
        code: "gateway_refused".to_owned(),
        hint: format!("Its gateway {gateway} is not accepted. {}", error.hint),
        ..error.clone()
    }
}

#[cfg(test)]
mod tests;
