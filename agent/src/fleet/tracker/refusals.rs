//! Publishes whose wanted revision was rejected, and which targets have yet to judge it.

use std::collections::BTreeSet;
use std::sync::Arc;

use imp_proto::agent as pb;

use super::Tracker;
use super::target::TargetId;
use super::track::{Refusal, Track};

/// The most targets that are remembered for one rejection.
const MARKS: usize = 64;

impl Tracker {
    /// Records that the wanted revision of a publish was rejected and replaced by the previous one
    /// or nothing. `by` are marks of targets.
    pub fn refuse(&mut self, id: &str, revision: u64, error: pb::PublishError, by: &[String]) {
        let Some(track) = self.publishes.get_mut(id).filter(|t| t.revision == revision) else {
            return;
        };
        let fresh = || Box::new(Refusal { error, by: BTreeSet::new() });
        let refusal = track.refused.get_or_insert_with(fresh);
        refusal.by.extend(by.iter().take(MARKS).cloned());
        self.refusals.insert(id.into());
        self.touch_one(id);
    }

    /// Withdraws a rejection, because the revision is tried again.
    pub fn withdraw(&mut self, id: &str) {
        self.refusals.remove(id);
        if let Some(track) = self.publishes.get_mut(id) {
            (track.refused, track.since) = (None, self.now);
            self.touch_one(id);
        }
    }

    /// The rejected publishes that a newly connected target did not reject and should judge.
    pub fn unheard_by(&self, target: TargetId) -> Vec<Arc<str>> {
        let Some(target) = self.targets.get(&target) else { return Vec::new() };
        let mark = target.mark();
        let unheard = |track: &Track, refusal: &Refusal| {
            target.is_envoy_of(&track.gateway) && !refusal.by.contains(&mark)
        };
        self.refused_where(unheard)
    }

    /// The rejected publishes that none of the connected targets rejected, if there are targets.
    pub fn refused_by_nobody(&self) -> Vec<Arc<str>> {
        let nobody = |track: &Track, refusal: &Refusal| {
            let serving = self.targets.values().filter(|target| target.is_envoy_of(&track.gateway));
            let mut serving = serving.peekable();
            serving.peek().is_some() && serving.all(|target| !refusal.by.contains(&target.mark()))
        };
        self.refused_where(nobody)
    }

    fn refused_where(&self, holds: impl Fn(&Track, &Refusal) -> bool) -> Vec<Arc<str>> {
        let holds = |id: &&Arc<str>| {
            let track = self.publishes.get(&***id);
            track.is_some_and(|track| track.refused.as_deref().is_some_and(|r| holds(track, r)))
        };
        self.refusals.iter().filter(holds).cloned().collect()
    }
}
