//! Who has acknowledged what: the status of each publish. Pure.
//!
//! A verdict touches the publishes that need the resource and nobody else, so its cost does not grow
//! with the number of publishes. Statuses are level-triggered: what is told is what is true when it
//! is asked for, however often it changed before.

mod node;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use imp_proto::agent as pb;
use imp_translate::assembly::Needs;
use imp_xds::StreamId;

pub use node::Node;
use node::Verdict;

/// A resource for Envoy: type URL and name.
pub type Key = (&'static str, Arc<str>);

/// The statuses of all publishes.
#[derive(Debug, Default)]
pub struct Tracker {
    nodes: BTreeMap<StreamId, Node>,
    publishes: HashMap<String, Track>,
    needed_by: HashMap<Key, BTreeSet<String>>,
    by_gateway: HashMap<String, BTreeSet<String>>,
    /// Time since the start.
    now: Duration,
    /// Wait for an Envoy that may yet answer.
    waiting: BTreeSet<String>,
    /// Were refused.
    refusals: BTreeSet<String>,
    /// May have changed.
    touched: BTreeSet<String>,
    /// Have changed since they were last asked for.
    changed: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Track {
    gateway: String,
    /// What is wanted.
    revision: u64,
    /// When it began to be.
    since: Duration,
    /// What is rendered, and what of it must be acknowledged.
    needs: Option<(u64, Vec<(Key, String)>)>,
    acked_revision: u64,
    /// Envoy refused `revision`.
    refused: Option<Refusal>,
    /// The agent refused a revision that came after this one.
    rejected: Option<(u64, pb::PublishError)>,
    /// It is not served at all of its hosts.
    misplaced: Option<pb::PublishError>,
    status: pb::PublishStatus,
}

#[derive(Debug)]
struct Refusal {
    error: pb::PublishError,
    /// Marks of nodes; they stay over a reconnect.
    by: BTreeSet<String>,
}

/// What the Envoys that may see a resource think of one version of it.
#[derive(Debug, Default)]
pub struct Votes {
    /// One of them took it.
    pub accepted: bool,
    /// One of them has not said anything about it.
    pub missing: bool,
    /// Marks of those that refused it.
    pub refused_by: Vec<String>,
}

/// What Envoys think of the revision that is rendered.
#[derive(Debug, Default)]
struct Count {
    acked: u32,
    nacked: u32,
    behind: u32,
    /// Of those behind.
    silent: u32,
    error: Option<pb::PublishError>,
}

impl Tracker {
    /// An Envoy came.
    pub fn open(&mut self, stream: StreamId, mut node: Node) {
        self.touch_gateways_of(node.gateway.as_deref());
        (node.came, node.heard) = (self.now, self.now);
        self.nodes.insert(stream, node);
    }

    /// An Envoy left: it no longer counts.
    pub fn close(&mut self, stream: StreamId) {
        if let Some(node) = self.nodes.remove(&stream) {
            self.touch_gateways_of(node.gateway.as_deref());
        }
    }

    /// The Envoy of a stream.
    pub fn node(&self, stream: StreamId) -> Option<&Node> {
        self.nodes.get(&stream)
    }

    /// All connected Envoys.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// An Envoy has this version now; None: it has given the resource up.
    pub fn acked(&mut self, stream: StreamId, key: &Key, version: Option<&str>) {
        let Some(node) = self.nodes.get_mut(&stream) else { return };
        node.heard = self.now;
        node.record(key, version.map(Verdict::acked));
        self.touch_users_of(key);
    }

    /// An Envoy refused this version.
    pub fn nacked(&mut self, stream: StreamId, key: &Key, version: &str, words: &str) {
        let Some(node) = self.nodes.get_mut(&stream) else { return };
        node.heard = self.now;
        node.record(key, Some(Verdict::nacked(version, words)));
        self.touch_users_of(key);
    }

    /// A revision is wanted now.
    pub fn want(&mut self, id: &str, gateway: &str, revision: u64) {
        let track = self.publishes.entry(id.to_owned()).or_default();
        if track.gateway != gateway {
            if let Some(ids) = self.by_gateway.get_mut(&track.gateway) {
                ids.remove(id);
            }
            gateway.clone_into(&mut track.gateway);
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

    /// What is rendered of a publish now: revision and needed resources; None: nothing.
    pub fn need(&mut self, id: &str, needs: Option<(u64, Needs)>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        let owned = |(url, name, version)| ((url, Arc::from(name)), version);
        let next = needs.map(|(revision, needs): (u64, Needs)| {
            (revision, needs.into_iter().map(owned).collect::<Vec<(Key, String)>>())
        });
        for (key, _) in track.needs.iter().flat_map(|(_, needs)| needs) {
            unlink(&mut self.needed_by, key, id);
        }
        for (key, _) in next.iter().flat_map(|(_, needs)| needs) {
            self.needed_by.entry(key.clone()).or_default().insert(id.to_owned());
        }
        track.needs = next;
        self.touched.insert(id.to_owned());
    }

    /// Envoy refused the wanted revision of a publish; it fell back, or out.
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

    /// Refused publishes that an Envoy should judge which has come and did not refuse them.
    pub fn unheard_by(&self, stream: StreamId) -> Vec<String> {
        let Some(node) = self.nodes.get(&stream) else { return Vec::new() };
        let mark = node.mark();
        let unheard = |track: &Track, refusal: &Refusal| {
            node.serves(&track.gateway) && !refusal.by.contains(&mark)
        };
        self.refused_where(unheard)
    }

    /// Refused publishes that none of the connected Envoys refused, if there are any.
    pub fn refused_by_nobody(&self) -> Vec<String> {
        let nobody = |track: &Track, refusal: &Refusal| {
            let mut nodes =
                self.nodes.values().filter(|node| node.serves(&track.gateway)).peekable();
            nodes.peek().is_some() && nodes.all(|node| !refusal.by.contains(&node.mark()))
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

    /// What the Envoys of a gateway (empty: of every gateway that needs it) think of a version.
    pub fn votes(&self, gateway: &str, key: &Key, version: &str) -> Votes {
        let users = self.users_of(key).filter_map(|id| self.publishes.get(id));
        let gateways: BTreeSet<&str> = match gateway {
            "" => users.map(|track| track.gateway.as_str()).collect(),
            one => BTreeSet::from([one]),
        };
        let mut votes = Votes::default();
        for node in self.nodes.values() {
            match node.verdict(key, version) {
                Some(true) => votes.accepted = true,
                Some(false) => votes.refused_by.push(node.mark()),
                None => votes.missing |= gateways.iter().any(|gateway| node.serves(gateway)),
            }
        }
        votes
    }

    /// The connected Envoys that refuse a version.
    pub fn refusers_of(&self, key: &Key, version: &str) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.verdict(key, version) == Some(false))
    }

    /// Whether every connected Envoy that serves it has all of the wanted revision, and there is one.
    pub fn is_everywhere(&self, id: &str) -> bool {
        let Some(track) = self.publishes.get(id) else { return false };
        let rendered = track.needs.as_ref().map(|(revision, _)| *revision);
        let count = self.count(track);
        rendered == Some(track.revision)
            && count.acked > 0
            && (count.nacked, count.behind) == (0, 0)
    }

    /// Time passes: who waits for an answer may have waited long enough.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        self.touched.append(&mut self.waiting);
    }

    /// The agent itself could not take a revision; what it held before goes on.
    pub fn reject(&mut self, id: &str, revision: Option<u64>, error: pb::PublishError) {
        let track = self.publishes.entry(id.to_owned()).or_default();
        track.rejected = Some((revision.unwrap_or(track.revision), error));
        self.touched.insert(id.to_owned());
    }

    /// What was acknowledged before a restart: an Envoy that is on its way back takes nothing of it.
    pub fn resume(&mut self, id: &str, acked_revision: u64) {
        if let Some(track) = self.publishes.get_mut(id) {
            track.acked_revision = acked_revision;
            self.touched.insert(id.to_owned());
        }
    }

    /// Whether it is served at all of its hosts; if not, why.
    pub fn place(&mut self, id: &str, misplaced: Option<pb::PublishError>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.misplaced != misplaced {
            track.misplaced = misplaced;
            self.touched.insert(id.to_owned());
        }
    }

    /// A publish is gone.
    pub fn remove(&mut self, id: &str) {
        self.need(id, None);
        if let Some(track) = self.publishes.remove(id)
            && let Some(ids) = self.by_gateway.get_mut(&track.gateway)
        {
            ids.remove(id);
        }
        for of in [&mut self.touched, &mut self.changed, &mut self.waiting, &mut self.refusals] {
            of.remove(id);
        }
    }

    /// Brings the statuses up to date. Gives each publish whose acknowledged revision changed.
    pub fn settle(&mut self) -> Vec<(String, u64)> {
        let mut acked = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(track) = self.publishes.get(&id) else { continue };
            let count = self.count(track);
            let Some(track) = self.publishes.get_mut(&id) else { continue };
            if count.behind > count.silent {
                self.waiting.insert(id.clone());
            }
            let before = track.acked_revision;
            track.latch(&count);
            if track.acked_revision != before {
                acked.push((id.clone(), track.acked_revision));
            }
            let status = track.status(&id, count, &self.nodes);
            if status != track.status {
                track.status = status;
                self.changed.insert(id);
            }
        }
        acked
    }

    /// The publishes that need a resource.
    pub fn users_of(&self, key: &Key) -> impl Iterator<Item = &String> {
        self.needed_by.get(key).into_iter().flatten()
    }

    /// Whether any status has not been taken yet.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether an untaken status is more than "on its way": every Envoy has answered, or one refused.
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

    /// From now on all are news again.
    pub fn all_changed(&mut self) {
        self.changed = self.publishes.keys().cloned().collect();
    }

    /// The status of every publish.
    pub fn statuses(&self) -> Vec<pb::PublishStatus> {
        self.publishes.values().map(|track| track.status.clone()).collect()
    }

    fn count(&self, track: &Track) -> Count {
        let mut count = Count::default();
        for node in self.nodes.values().filter(|node| node.serves(&track.gateway)) {
            match track.needs.as_ref().map(|(_, needs)| node.judges(needs)) {
                Some(Ok(true)) => count.acked += 1,
                Some(Ok(false)) | None => {
                    count.behind += 1;
                    count.silent += u32::from(node.is_silent(track.since, self.now));
                }
                Some(Err((key, words))) => {
                    count.nacked += 1;
                    count.error.get_or_insert_with(|| envoy_nack(key.0, &key.1, words));
                }
            }
        }
        count
    }

    fn touch_users_of(&mut self, key: &Key) {
        if let Some(ids) = self.needed_by.get(key) {
            self.touched.extend(ids.iter().cloned());
        }
    }

    fn touch_gateways_of(&mut self, gateway: Option<&str>) {
        match gateway {
            Some(gateway) => {
                self.touched.extend(self.by_gateway.get(gateway).into_iter().flatten().cloned());
            }
            None => self.touched.extend(self.publishes.keys().cloned()),
        }
    }
}

impl Track {
    /// An Envoy that is only catching up takes nothing back; what falls out of Envoy does. One that
    /// refuses what another took, or that says nothing, holds nothing up.
    fn latch(&mut self, count: &Count) {
        match &self.needs {
            Some((revision, _)) if count.acked > 0 && count.behind <= count.silent => {
                self.acked_revision = *revision;
            }
            None if self.refused.is_some() => self.acked_revision = 0,
            _ => {}
        }
    }

    fn status(
        &self,
        id: &str,
        count: Count,
        nodes: &BTreeMap<StreamId, Node>,
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
        // The counts above are about what serves instead.
        if let Some(refusal) = &self.refused {
            let of_gateway = nodes.values().filter(|node| node.serves(&self.gateway));
            let (by, others): (Vec<_>, Vec<_>) =
                of_gateway.partition(|node| refusal.by.contains(&node.mark()));
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

/// Nodes that are remembered to have refused a publish.
const MARKS: usize = 64;

fn unlink(index: &mut HashMap<Key, BTreeSet<String>>, key: &Key, id: &str) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// What is told about a refusal of Envoy.
pub fn envoy_nack(type_url: &str, name: &str, words: &str) -> pb::PublishError {
    use imp_translate::xds::{CLUSTER, LISTENER};
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

/// What is told about a publish that the agent could not take.
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

#[cfg(test)]
mod tests;
