//! Derives what became of publishes from Envoys' answers about resources. Pure.
//!
//! An Envoy has accepted a revision of a publish if it acknowledged every resource that it needs,
//! in the rendered version, and has rejected it if it rejected any of them. An answer affects only
//! the publishes that need the resource, and its cost depends on those alone.

mod resources;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_proto::agent as pb;
use imp_translate::assembly::Needs;
use imp_translate::xds::{CLUSTER, LISTENER, ROUTES};
use imp_xds::StreamId;

use super::leads::LEAD;
use super::tracker::{Outcome, Tracker, Verdict};
use resources::{Need, Resources};

/// A resource for Envoy: type URL and name.
pub(super) type Key = (&'static str, Arc<str>);

/// The Envoys' answers, and the publishes that they concern.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    said: BTreeMap<StreamId, HashMap<Key, Answer>>,
    /// Those that have only what is behind somebody else's listeners.
    attached: BTreeSet<StreamId>,
    needs: HashMap<Arc<str>, Needed>,
    resources: Resources,
    /// Whether an Envoy has ever been here.
    followed: bool,
    /// Publishes whose outcome may have changed, and at which Envoys.
    stale: BTreeMap<Arc<str>, BTreeSet<StreamId>>,
}

/// The rendered revision of a publish, and the resource versions that must be acknowledged for it.
#[derive(Debug)]
struct Needed {
    revision: u64,
    needs: Box<[Arc<Need>]>,
}

/// An Envoy's last answer about a resource.
#[derive(Debug)]
struct Answer {
    version: Arc<str>,
    /// The error message; `None` if it accepted.
    words: Option<Box<str>>,
}

/// The answers about one version of a resource, of all Envoys that may see it.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Whether any of them accepted it.
    pub(super) accepted: bool,
    /// Whether any of them has not answered.
    pub(super) missing: bool,
    /// Marks of those that rejected it.
    pub(super) refused_by: Vec<String>,
}

impl Acknowledgements {
    /// An Envoy connected; it has not answered anything yet. Returns whether it is the first one:
    /// from now on it matters what publishes need.
    pub(super) fn open(&mut self, stream: StreamId, attached: bool) -> bool {
        if attached {
            self.attached.insert(stream);
        }
        self.said.insert(stream, HashMap::new());
        !std::mem::replace(&mut self.followed, true)
    }

    /// Whether it matters what publishes need: some Envoy's answers are about it.
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }

    /// An Envoy has this version now, or has removed the resource (`None`).
    pub(super) fn acked(&mut self, stream: StreamId, key: &Key, version: Option<&str>) {
        let taken = |version: &str| Answer { version: self.version(key, version), words: None };
        let answer = version.map(taken);
        self.answered(stream, key, answer);
    }

    /// The version as text that publishes which need it share.
    fn version(&self, key: &Key, version: &str) -> Arc<str> {
        let needed = self.resources.version(key).filter(|needed| ***needed == *version);
        needed.cloned().unwrap_or_else(|| version.into())
    }

    /// An Envoy rejected this version.
    pub(super) fn nacked(&mut self, stream: StreamId, key: &Key, version: &str, words: &str) {
        let (version, words) = (self.version(key, version), Some(words.into()));
        self.answered(stream, key, Some(Answer { version, words }));
    }

    /// Drops what an Envoy said of a type.
    pub(super) fn forget(&mut self, stream: StreamId, type_url: &str) {
        let of_type = |key: &&Key| key.0 == type_url;
        let said = self.said.get(&stream).into_iter().flat_map(HashMap::keys);
        let keys: Vec<_> = said.filter(of_type).cloned().collect();
        keys.iter().for_each(|key| self.answered(stream, key, None));
    }

    fn answered(&mut self, stream: StreamId, key: &Key, answer: Option<Answer>) {
        let Some(said) = self.said.get_mut(&stream) else { return };
        match answer {
            Some(answer) => said.insert(key.clone(), answer),
            None => said.remove(key),
        };
        for id in self.resources.users_of(key) {
            self.stale.entry(id.clone()).or_default().insert(stream);
        }
    }

    /// An Envoy disconnected; its answers are dropped.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.said.remove(&stream);
        self.attached.remove(&stream);
    }

    /// Sets what is rendered of a publish: revision and needed resources; `None` for nothing.
    pub(super) fn need(&mut self, id: &Arc<str>, needs: Option<(u64, Needs)>) {
        let before = self.needs.remove(id);
        let now = needs.map(|(revision, needs)| {
            let shared = needs.into_iter().map(|need| self.resources.need(id, need));
            Needed { revision, needs: shared.collect() }
        });
        // Those in both stay as they are.
        let kept = |need: &&Arc<Need>| {
            let mut kept = now.iter().flat_map(|now| &now.needs);
            kept.any(|other| other.key == need.key)
        };
        let left = before.iter().flat_map(|before| &before.needs).filter(|need| !kept(need));
        left.for_each(|need| self.resources.leave(&need.key, id));
        match now {
            Some(now) => {
                self.needs.insert(id.clone(), now);
                self.stale.entry(id.clone()).or_default().extend(self.said.keys());
            }
            None => drop(self.stale.remove(id)),
        }
    }

    /// The publishes that need a resource.
    pub(super) fn users_of(&self, key: &Key) -> impl Iterator<Item = &Arc<str>> {
        self.resources.users_of(key)
    }

    /// Takes the outcomes since the last call. `describe` names a resource that a publish needs for
    /// people.
    pub(super) fn outcomes(&mut self, describe: impl Fn(&str, &Key) -> String) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (publish, streams) in std::mem::take(&mut self.stale) {
            let Some(Needed { revision, needs }) = self.needs.get(&publish) else { continue };
            for target in streams {
                let Some(said) = self.said.get(&target) else { continue };
                let (publish, revision) = (publish.clone(), *revision);
                let attached = self.attached.contains(&target);
                let verdict = verdict(said, needs, attached, |key| describe(&publish, key));
                outcomes.push(Outcome { publish, revision, target, verdict });
            }
        }
        outcomes
    }

    /// What an Envoy has done with a publish as it is rendered now, and the revision that this is.
    pub(super) fn outcome(&self, publish: &Arc<str>, target: StreamId) -> Option<Outcome> {
        let (Needed { revision, needs }, said) =
            (self.needs.get(publish)?, self.said.get(&target)?);
        let attached = self.attached.contains(&target);
        let verdict = verdict(said, needs, attached, |_| String::new());
        Some(Outcome { publish: publish.clone(), revision: *revision, target, verdict })
    }

    /// The error message of an Envoy that rejects the last version of a resource it was sent.
    pub(super) fn refusal(&self, stream: StreamId, key: &Key) -> Option<&str> {
        self.said.get(&stream)?.get(key)?.words.as_deref()
    }

    /// The Envoys that reject a version.
    pub(super) fn refusers_of(&self, key: &Key, version: &str) -> impl Iterator<Item = StreamId> {
        let refuse = move |said: &HashMap<Key, Answer>| answer(said, key, version) == Some(false);
        self.said.iter().filter(move |(_, said)| refuse(said)).map(|(stream, _)| *stream)
    }

    /// Whether an Envoy has some version of a resource; `None` if it has not said anything about it.
    pub(super) fn has(&self, stream: StreamId, key: &Key) -> Option<bool> {
        self.said.get(&stream)?.get(key).map(|answer| answer.words.is_none())
    }

    /// The answers of a gateway's Envoys (empty: of every gateway that needs it) about a version.
    pub(super) fn votes(
        &self,
        tracker: &Tracker,
        gateway: &str,
        key: &Key,
        version: &str,
    ) -> Votes {
        let gateways: BTreeSet<&str> = match gateway {
            "" => self.users_of(key).filter_map(|id| tracker.gateway_of(id)).collect(),
            one => BTreeSet::from([one]),
        };
        let mut votes = Votes::default();
        for (stream, node) in tracker.targets() {
            match self.said.get(&stream).and_then(|said| answer(said, key, version)) {
                Some(true) => votes.accepted = true,
                Some(false) => votes.refused_by.push(node.mark()),
                None => votes.missing |= gateways.iter().any(|gateway| node.serves(gateway)),
            }
        }
        votes
    }
}

/// Whether this version was accepted; `None` without an answer.
fn answer(said: &HashMap<Key, Answer>, key: &Key, version: &str) -> Option<bool> {
    let answer = said.get(key).filter(|answer| *answer.version == *version)?;
    Some(answer.words.is_none())
}

fn verdict(
    said: &HashMap<Key, Answer>,
    needs: &[Arc<Need>],
    attached: bool,
    describe: impl Fn(&Key) -> String,
) -> Verdict {
    let mut verdict = Verdict::Accepted;
    for need in needs {
        let Need { key, version } = &**need;
        match said.get(key).filter(|answer| answer.version == *version) {
            Some(Answer { words: Some(words), .. }) => {
                return Verdict::Refused(Box::new(envoy_nack(key.0, &describe(key), words)));
            }
            Some(Answer { words: None, .. }) => {}
            None if is_needed(key.0, attached) => verdict = Verdict::Gone,
            None => {}
        }
    }
    verdict
}

/// Whether an Envoy must have it. Somebody else's gets clusters when a call needs them, and the listener by
/// another way than from here; to our own every host leads.
fn is_needed(type_url: &str, attached: bool) -> bool {
    if attached { ![CLUSTER, LISTENER, ROUTES].contains(&type_url) } else { type_url != LEAD }
}

/// The error to report when Envoy rejects a resource, whose name is that for people.
pub(super) fn envoy_nack(type_url: &str, name: &str, words: &str) -> pb::PublishError {
    let hint = match type_url {
        LISTENER => {
            "Envoy cannot open the gateway's listener. If its port is taken, free it or give the \
             gateway another one; it is tried again by itself."
        }
        CLUSTER => {
            "Correct the backend that Envoy names and redeploy; what served before still does."
        }
        _ => {
            "Correct the route that Envoy's message describes and redeploy; what served before still does."
        }
    };
    pb::PublishError {
        code: "envoy_nack".to_owned(),
        resource: format!("{type_url} {name}"),
        envoy_message: words.to_owned(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests;
