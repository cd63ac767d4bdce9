//! Derives what became of publishes from Envoys' answers about resources. Pure.
//!
//! An Envoy has accepted a revision of a publish if it acknowledged every resource that it needs,
//! in the rendered version, and has rejected it if it rejected any of them. An answer affects only
//! the publishes that need the resource, and its cost depends on those alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_proto::agent as pb;
use imp_translate::assembly::Needs;
use imp_translate::xds::{CLUSTER, LISTENER};
use imp_xds::StreamId;

use super::tracker::{Outcome, Tracker, Verdict};

/// A resource for Envoy: type URL and name.
pub(super) type Key = (&'static str, Arc<str>);

/// The Envoys' answers, and the publishes that they concern.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    said: BTreeMap<StreamId, HashMap<Key, Answer>>,
    needs: HashMap<String, Needed>,
    needed_by: HashMap<Key, BTreeSet<String>>,
    /// Publishes whose outcome may have changed, and at which Envoys.
    stale: BTreeMap<String, BTreeSet<StreamId>>,
}

/// The rendered revision of a publish, and the resource versions that must be acknowledged for it.
type Needed = (u64, Box<[(Key, Arc<str>)]>);

/// An Envoy's last answer about a resource.
#[derive(Debug)]
struct Answer {
    version: String,
    /// The error message; `None` if it accepted.
    words: Option<String>,
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
    /// An Envoy connected; it has not answered anything yet.
    pub(super) fn open(&mut self, stream: StreamId) {
        self.said.insert(stream, HashMap::new());
    }

    /// An Envoy has this version now, or has removed the resource (`None`).
    pub(super) fn acked(&mut self, stream: StreamId, key: &Key, version: Option<&str>) {
        let taken = |version: &str| Answer { version: version.to_owned(), words: None };
        self.answered(stream, key, version.map(taken));
    }

    /// An Envoy rejected this version.
    pub(super) fn nacked(&mut self, stream: StreamId, key: &Key, version: &str, words: &str) {
        let (version, words) = (version.to_owned(), Some(words.to_owned()));
        self.answered(stream, key, Some(Answer { version, words }));
    }

    fn answered(&mut self, stream: StreamId, key: &Key, answer: Option<Answer>) {
        let Some(said) = self.said.get_mut(&stream) else { return };
        match answer {
            Some(answer) => said.insert(key.clone(), answer),
            None => said.remove(key),
        };
        for id in self.needed_by.get(key).into_iter().flatten() {
            self.stale.entry(id.clone()).or_default().insert(stream);
        }
    }

    /// An Envoy disconnected; its answers are dropped.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.said.remove(&stream);
    }

    /// Sets what is rendered of a publish: revision and needed resources; `None` for nothing.
    pub(super) fn need(&mut self, id: &str, needs: Option<(u64, Needs)>) {
        if let Some((_, before)) = self.needs.remove(id) {
            for (key, _) in &*before {
                unlink(&mut self.needed_by, key, id);
            }
        }
        let Some((revision, needs)) = needs else {
            self.stale.remove(id);
            return;
        };
        let keyed = |(url, name, version)| ((url, name), version);
        let needs: Box<[(Key, Arc<str>)]> = needs.into_iter().map(keyed).collect();
        for (key, _) in &*needs {
            self.needed_by.entry(key.clone()).or_default().insert(id.to_owned());
        }
        self.needs.insert(id.to_owned(), (revision, needs));
        self.stale.entry(id.to_owned()).or_default().extend(self.said.keys());
    }

    /// The publishes that need a resource.
    pub(super) fn users_of(&self, key: &Key) -> impl Iterator<Item = &String> {
        self.needed_by.get(key).into_iter().flatten()
    }

    /// Takes the outcomes since the last call. `describe` names a resource that a publish needs for
    /// people.
    pub(super) fn outcomes(&mut self, describe: impl Fn(&str, &Key) -> String) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (publish, streams) in std::mem::take(&mut self.stale) {
            let Some((revision, needs)) = self.needs.get(&publish) else { continue };
            for target in streams {
                let Some(said) = self.said.get(&target) else { continue };
                let (publish, revision) = (publish.clone(), *revision);
                let verdict = verdict(said, needs, |key| describe(&publish, key));
                outcomes.push(Outcome { publish, revision, target, verdict });
            }
        }
        outcomes
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
    let answer = said.get(key).filter(|answer| answer.version == version)?;
    Some(answer.words.is_none())
}

fn verdict(
    said: &HashMap<Key, Answer>,
    needs: &[(Key, Arc<str>)],
    describe: impl Fn(&Key) -> String,
) -> Verdict {
    let mut verdict = Verdict::Accepted;
    for (key, version) in needs {
        match said.get(key).filter(|answer| *answer.version == **version) {
            Some(Answer { words: Some(words), .. }) => {
                return Verdict::Refused(Box::new(envoy_nack(key.0, &describe(key), words)));
            }
            Some(Answer { words: None, .. }) => {}
            None => verdict = Verdict::Gone,
        }
    }
    verdict
}

fn unlink(index: &mut HashMap<Key, BTreeSet<String>>, key: &Key, id: &str) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
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
