//! From what Envoys say about resources to what becomes of publishes. Pure.
//!
//! A revision of a publish is taken by an Envoy that has acknowledged every resource that it needs, in
//! the version that is rendered, and refused by one that refused any of them. An answer concerns the
//! publishes that need the resource, and costs what these need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_proto::agent as pb;
use imp_translate::assembly::Needs;
use imp_translate::xds::{CLUSTER, LISTENER};
use imp_xds::StreamId;

use super::tracker::{Outcome, Tracker, Verdict};

/// A resource for Envoy: type URL and name.
pub(super) type Key = (&'static str, Arc<str>);

/// What Envoys have said, and which publishes that is about.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    said: BTreeMap<StreamId, HashMap<Key, Answer>>,
    needs: HashMap<String, Needed>,
    needed_by: HashMap<Key, BTreeSet<String>>,
    /// Publishes of which another thing may have become, and at which Envoys.
    stale: BTreeMap<String, BTreeSet<StreamId>>,
}

/// What is rendered of a publish: its revision, and what must be acknowledged of it.
type Needed = (u64, Vec<(Key, String)>);

/// What an Envoy said last about a resource.
#[derive(Debug)]
struct Answer {
    version: String,
    /// None: it took it.
    words: Option<String>,
}

/// What the Envoys that may see a resource think of one version of it.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// One of them took it.
    pub(super) accepted: bool,
    /// One of them has not said anything about it.
    pub(super) missing: bool,
    /// Marks of those that refused it.
    pub(super) refused_by: Vec<String>,
}

impl Acknowledgements {
    /// An Envoy came, and has said nothing yet.
    pub(super) fn open(&mut self, stream: StreamId) {
        self.said.insert(stream, HashMap::new());
    }

    /// An Envoy has this version now; None: it has given the resource up.
    pub(super) fn acked(&mut self, stream: StreamId, key: &Key, version: Option<&str>) {
        let taken = |version: &str| Answer { version: version.to_owned(), words: None };
        self.answered(stream, key, version.map(taken));
    }

    /// An Envoy refused this version.
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

    /// An Envoy left, and takes its answers along.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.said.remove(&stream);
    }

    /// What is rendered of a publish now: revision and needed resources; None: nothing.
    pub(super) fn need(&mut self, id: &str, needs: Option<(u64, Needs)>) {
        if let Some((_, before)) = self.needs.remove(id) {
            for (key, _) in &before {
                unlink(&mut self.needed_by, key, id);
            }
        }
        let Some((revision, needs)) = needs else {
            self.stale.remove(id);
            return;
        };
        let owned = |(url, name, version)| ((url, Arc::from(name)), version);
        let needs: Vec<(Key, String)> = needs.into_iter().map(owned).collect();
        for (key, _) in &needs {
            self.needed_by.entry(key.clone()).or_default().insert(id.to_owned());
        }
        self.needs.insert(id.to_owned(), (revision, needs));
        self.stale.entry(id.to_owned()).or_default().extend(self.said.keys());
    }

    /// The publishes that need a resource.
    pub(super) fn users_of(&self, key: &Key) -> impl Iterator<Item = &String> {
        self.needed_by.get(key).into_iter().flatten()
    }

    /// What has become of publishes since this was last asked for.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (publish, streams) in std::mem::take(&mut self.stale) {
            let Some((revision, needs)) = self.needs.get(&publish) else { continue };
            for target in streams {
                let Some(said) = self.said.get(&target) else { continue };
                let (publish, revision, verdict) =
                    (publish.clone(), *revision, verdict(said, needs));
                outcomes.push(Outcome { publish, revision, target, verdict });
            }
        }
        outcomes
    }

    /// The words of an Envoy that refuses what it was sent of a resource last.
    pub(super) fn refusal(&self, stream: StreamId, key: &Key) -> Option<&str> {
        self.said.get(&stream)?.get(key)?.words.as_deref()
    }

    /// The Envoys that refuse a version.
    pub(super) fn refusers_of(&self, key: &Key, version: &str) -> impl Iterator<Item = StreamId> {
        let refuse = move |said: &HashMap<Key, Answer>| answer(said, key, version) == Some(false);
        self.said.iter().filter(move |(_, said)| refuse(said)).map(|(stream, _)| *stream)
    }

    /// What the Envoys of a gateway (empty: of every gateway that needs it) think of a version.
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

/// What was said about this version: whether it was taken.
fn answer(said: &HashMap<Key, Answer>, key: &Key, version: &str) -> Option<bool> {
    let answer = said.get(key).filter(|answer| answer.version == version)?;
    Some(answer.words.is_none())
}

fn verdict(said: &HashMap<Key, Answer>, needs: &[(Key, String)]) -> Verdict {
    let mut verdict = Verdict::Accepted;
    for (key, version) in needs {
        match said.get(key).filter(|answer| answer.version == *version) {
            Some(Answer { words: Some(words), .. }) => {
                return Verdict::Refused(Box::new(envoy_nack(key.0, &key.1, words)));
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

/// What is told about a refusal of Envoy.
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
