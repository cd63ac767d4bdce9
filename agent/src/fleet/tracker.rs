//! The status of each publish. Pure, and independent of xDS: its inputs are outcomes, which
//! `acknowledgements` derives from Envoys' answers.
//!
//! An outcome affects only its publish, so its cost does not grow with the number of publishes.
//! Statuses are level-triggered: a reader gets the current ones, however often they changed before.

mod conditions;
mod refusals;
mod target;
mod track;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use imp_proto::agent as pb;

pub use conditions::About;
pub use target::{GATEWAY_API, Target, TargetId};
use track::{Said, Status, Track};

/// The outcome of a revision at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub publish: Arc<str>,
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
    publishes: HashMap<Arc<str>, Box<Track>>,
    by_gateway: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// Time since the start.
    now: Duration,
    /// Publishes that wait for a target's answer, by the time at which one may have become silent. Each
    /// is there once.
    waiting: BTreeMap<Duration, Vec<Arc<str>>>,
    /// Publishes that were rejected.
    refusals: BTreeSet<Arc<str>>,
    /// Publishes whose status may have changed.
    touched: HashSet<Arc<str>>,
    /// The same, because a target came or left, which concerns all that it serves: settled in portions.
    rest: Vec<Arc<str>>,
    /// Publishes whose status has changed since it was last taken.
    changed: HashSet<Arc<str>>,
    /// Whether one of these statuses may be a verdict.
    decided: bool,
}

/// So many of [`Tracker::rest`] are settled at once, which takes milliseconds.
const PORTION: usize = 2_048;

/// Times at which silence is looked for are rounded down to this.
const ROUND: Duration = Duration::from_millis(250);

impl Tracker {
    /// Adds a target.
    pub fn open(&mut self, id: TargetId, mut target: Target) {
        self.rest.extend(self.served_by(&target));
        (target.came, target.heard) = (self.now, self.now);
        self.targets.insert(id, target);
    }

    /// Removes a target, which no longer counts.
    pub fn close(&mut self, id: TargetId) {
        let Some(target) = self.targets.remove(&id) else { return };
        let served = self.served_by(&target);
        for publish in &served {
            if let Some(track) = self.publishes.get_mut(publish) {
                track.said.set(id, None);
            }
        }
        self.rest.extend(served);
    }

    /// A connected target.
    pub fn target(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(&id)
    }

    /// All connected Envoys.
    pub fn targets(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        let envoys = self.targets.iter().filter(|(id, _)| **id != GATEWAY_API);
        envoys.map(|(id, target)| (*id, target))
    }

    /// Records that a target sent something, so it is not silent.
    pub fn heard(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.heard = self.now;
        }
    }

    /// The tracker's clock.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Whether a target is not waited for about what has been wanted since then.
    pub(super) fn is_silent(&self, target: &Target, wanted: Duration) -> bool {
        target.is_silent(wanted, self.now)
    }

    /// Takes the outcome of a revision. Ignored if the revision is not rendered, or the target does
    /// not serve the publish.
    pub fn take(&mut self, outcome: Outcome) {
        let Outcome { publish, revision, target, verdict } = outcome;
        let Some(track) = self.publishes.get_mut(&publish) else { return };
        let serves = self.targets.get(&target).is_some_and(|it| track.is_on(it));
        if track.rendered != Some(revision) || !serves {
            return;
        }
        let said = match verdict {
            Verdict::Accepted => Some(Said::Accepted),
            Verdict::Refused(error) => Some(Said::Refused(error)),
            Verdict::Gone => None,
        };
        if track.said.get(target) == said.as_ref() {
            return;
        }
        track.said.set(target, said);
        self.touched.insert(publish);
    }

    /// Sets the wanted revision.
    pub fn want(&mut self, id: impl Into<Arc<str>>, gateway: &str, revision: u64) {
        let id = id.into();
        let gateway = match self.by_gateway.get_key_value(gateway) {
            Some((known, _)) => known.clone(),
            None => gateway.into(),
        };
        let track = self.publishes.entry(id.clone()).or_default();
        if track.gateway != gateway {
            leave(&mut self.by_gateway, &track.gateway, &id);
            track.gateway = gateway.clone();
            track.said.clear();
            self.by_gateway.entry(gateway).or_default().insert(id.clone());
        }
        if track.revision != revision {
            (track.revision, track.since) = (revision, self.now);
            track.refused = None;
            self.refusals.remove(&id);
        }
        track.rejected = None;
        self.touched.insert(id);
    }

    /// Sets whether its status is what Gateway API's controllers say of it, instead of Envoys.
    pub fn deliver(&mut self, id: &str, by_gateway_api: bool) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.by_gateway_api != by_gateway_api {
            (track.by_gateway_api, track.rendered) = (by_gateway_api, None);
            track.said.clear();
            self.touch_one(id);
        }
    }

    /// It is no longer given to Envoys, whatever they have said.
    pub fn leave_envoys(&mut self, id: &str) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if self.refusals.remove(id) | track.refused.take().is_some() {
            self.touch_one(id);
        }
    }

    /// Whether a target is still waited for about a publish.
    pub(super) fn waits_for(&self, id: &str, target: &Target) -> bool {
        let since = self.publishes.get(id).map(|track| track.since);
        since.is_some_and(|since| !self.is_silent(target, since))
    }

    /// Whether the controllers of Gateway API have accepted what they were given last.
    pub(super) fn is_accepted_by_gateway_api(&self, id: &str) -> bool {
        let said = self.publishes.get(id).and_then(|track| track.said.get(GATEWAY_API));
        said == Some(&Said::Accepted)
    }

    /// Sets the revision that targets are sent; `None` if nothing of the publish is.
    pub fn render(&mut self, id: &str, revision: Option<u64>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.rendered != revision {
            track.rendered = revision;
            track.said.clear();
            self.touch_one(id);
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
        while let Some(due) = self.waiting.first_entry().filter(|due| *due.key() <= now) {
            for id in due.remove() {
                if let Some(track) = self.publishes.get_mut(&id) {
                    track.waits = false;
                    self.touched.insert(id);
                }
            }
        }
    }

    /// Records that the agent itself could not accept a revision; the previous one stays.
    pub fn reject(&mut self, id: &str, revision: Option<u64>, error: pb::PublishError) {
        let track = self.publishes.entry(id.into()).or_default();
        track.rejected = Some(Box::new((revision.unwrap_or(track.revision), error)));
        self.touch_one(id);
    }

    /// Restores the acknowledged revision after a restart: reconnecting targets do not lower it.
    pub fn resume(&mut self, id: &str, acked_revision: u64) {
        if let Some(track) = self.publishes.get_mut(id) {
            track.acked_revision = acked_revision;
            self.touch_one(id);
        }
    }

    /// Records whether it is served at all of its hosts; if not, why.
    pub fn place(&mut self, id: &str, misplaced: Option<pb::PublishError>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.misplaced.as_deref() != misplaced.as_ref() {
            track.misplaced = misplaced.map(Box::new);
            self.touch_one(id);
        }
    }

    /// Removes a publish.
    pub fn remove(&mut self, id: &str) {
        if let Some(track) = self.publishes.remove(id) {
            leave(&mut self.by_gateway, &track.gateway, id);
        }
        self.touched.remove(id);
        self.changed.remove(id);
        self.refusals.remove(id);
    }

    /// Whether [`Self::settle`] left something for the next call.
    pub fn is_behind(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Updates the statuses; if a target came or left, a portion of them. Returns the publishes whose
    /// acknowledged revision changed.
    pub fn settle(&mut self) -> Vec<(Arc<str>, u64)> {
        let mut acked = Vec::new();
        let kept = self.rest.len().saturating_sub(PORTION);
        self.touched.extend(self.rest.drain(kept..));
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(track) = self.publishes.get_mut(&id) else { continue };
            let count = track.count(&self.targets, self.now);
            if count.behind > count.silent && !std::mem::replace(&mut track.waits, true) {
                let at = track.silent_at(&self.targets, self.now);
                self.waiting.entry(at).or_default().push(id.clone());
            }
            let before = track.acked_revision;
            track.latch(&count);
            if track.acked_revision != before {
                acked.push((id.clone(), track.acked_revision));
            }
            let status = Some(track.status(count, &self.targets));
            if status != track.status {
                self.decided |= status.as_ref().is_some_and(Status::is_verdict);
                track.status = status;
                self.changed.insert(id);
            }
        }
        acked
    }

    /// The gateway of a publish.
    pub fn gateway_of(&self, id: &str) -> Option<&str> {
        self.publishes.get(id).map(|track| &*track.gateway)
    }

    /// Whether any status has not been taken yet.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether any status not yet taken is a verdict: every target has answered, or one rejected.
    pub fn has_verdict(&self) -> bool {
        self.decided && self.has_changed()
    }

    /// Takes at most `most` statuses that changed.
    pub fn take_changed(&mut self, most: usize) -> Vec<pb::PublishStatus> {
        let ids: Vec<_> = self.changed.extract_if(|_| true).take(most).collect();
        if self.changed.is_empty() {
            (self.changed, self.decided) = Default::default();
        }
        ids.iter().filter_map(|id| status(id, self.publishes.get(id)?)).collect()
    }

    /// Marks all as changed.
    pub fn all_changed(&mut self) {
        self.changed = self.publishes.keys().cloned().collect();
        self.decided = true;
    }

    /// The status of every publish.
    pub fn statuses(&self) -> Vec<pb::PublishStatus> {
        self.publishes.iter().filter_map(|(id, track)| status(id, track)).collect()
    }

    fn served_by(&self, target: &Target) -> Vec<Arc<str>> {
        match &target.gateway {
            Some(gateway) => {
                self.by_gateway.get(gateway.as_str()).into_iter().flatten().cloned().collect()
            }
            None => self.publishes.keys().cloned().collect(),
        }
    }

    fn touch_one(&mut self, id: &str) {
        let known = self.publishes.get_key_value(id).map(|(id, _)| id.clone());
        self.touched.extend(known);
    }
}

fn status(id: &str, track: &Track) -> Option<pb::PublishStatus> {
    track.status.as_ref().map(|status| status.of(id))
}

/// Takes a publish from its gateway's, and the gateway with the last of them.
fn leave(by_gateway: &mut HashMap<Arc<str>, HashSet<Arc<str>>>, gateway: &str, id: &str) {
    if let Some(ids) = by_gateway.get_mut(gateway) {
        ids.remove(id);
        if ids.is_empty() {
            by_gateway.remove(gateway);
        }
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
