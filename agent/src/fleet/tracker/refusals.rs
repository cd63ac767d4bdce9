//! Publishes whose wanted revision was refused: by whom, and who has yet to judge them.

use std::collections::BTreeSet;

use imp_proto::agent as pb;

use super::Tracker;
use super::target::TargetId;
use super::track::{Refusal, Track};

/// Targets that are remembered to have refused a publish.
const MARKS: usize = 64;

impl Tracker {
    /// The wanted revision of a publish was refused; it fell back, or out. `by`: marks of targets.
    pub fn refuse(&mut self, id: &str, revision: u64, error: pb::PublishError, by: &[String]) {
        let Some(track) = self.publishes.get_mut(id).filter(|t| t.revision == revision) else {
            return;
        };
        let refusal = track.refused.get_or_insert(Refusal { error, by: BTreeSet::new() });
        refusal.by.extend(by.iter().take(MARKS).cloned());
        self.refusals.insert(id.to_owned());
        self.touched.insert(id.to_owned());
    }

    /// A refusal is taken back: the revision is tried again.
    pub fn withdraw(&mut self, id: &str) {
        self.refusals.remove(id);
        if let Some(track) = self.publishes.get_mut(id) {
            (track.refused, track.since) = (None, self.now);
            self.touched.insert(id.to_owned());
        }
    }

    /// Refused publishes that a target should judge which has come and did not refuse them.
    pub fn unheard_by(&self, target: TargetId) -> Vec<String> {
        let Some(target) = self.targets.get(&target) else { return Vec::new() };
        let mark = target.mark();
        let unheard = |track: &Track, refusal: &Refusal| {
            target.serves(&track.gateway) && !refusal.by.contains(&mark)
        };
        self.refused_where(unheard)
    }

    /// Refused publishes that none of the present targets refused, if there are any.
    pub fn refused_by_nobody(&self) -> Vec<String> {
        let nobody = |track: &Track, refusal: &Refusal| {
            let serving = self.targets.values().filter(|target| target.serves(&track.gateway));
            let mut serving = serving.peekable();
            serving.peek().is_some() && serving.all(|target| !refusal.by.contains(&target.mark()))
        };
        self.refused_where(nobody)
    }

    fn refused_where(&self, holds: impl Fn(&Track, &Refusal) -> bool) -> Vec<String> {
        let holds = |id: &&String| {
            let track = self.publishes.get(*id);
            track.is_some_and(|track| track.refused.as_ref().is_some_and(|r| holds(track, r)))
        };
        self.refusals.iter().filter(holds).cloned().collect()
    }
}
