//! Combines the verdicts of single Envoys into one for all of them.
//!
//! A rejection counts for the Envoy that sent it. A revision is rolled back for everyone only if
//! none of the Envoys that may see it has accepted it; those that have not answered are waited for.
//! When the ones that rejected it are gone, or another connects, it is tried again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imp_process::random::random;
use imp_proto::agent as pb;
use imp_proto::config::ResourceType;
use imp_translate::Blame;
use imp_translate::xds::{EXTENSION, LISTENER};
use imp_xds::{AdsServer, StreamId, TypeUrl};
use prost::Message as _;

use super::acknowledgements::{Key, envoy_nack};
use super::core::Core;
use crate::backoff::Backoff;
use crate::lkg::{self, Table};

/// How long a rejection waits for the answers of others.
const HEARING: Duration = Duration::from_secs(5);

/// A rejection of one version that not all Envoys have answered about.
#[derive(Debug)]
pub(super) struct Doubt {
    version: String,
    words: String,
    until: Instant,
}

/// Waiting rejections, by gateway (empty: all) and resource.
pub(super) type Doubts = BTreeMap<(String, Key), Doubt>;

/// Rejections with a temporary cause, by Envoy and resource.
pub(super) type Retries = BTreeMap<(StreamId, Key), Retry>;

/// When to send it again; `None` if it was sent and the answer is outstanding.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    at: Option<Instant>,
}

/// A port that was taken may be free a moment later, or after somebody intervened.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Follows a stored rejection, in a field that the status does not have: the marks of the Envoys.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefusedBy {
    #[prost(string, repeated, tag = "1000")]
    pub(super) marks: Vec<String>,
}

/// Messages of Envoy and the kernel for causes that are unrelated to the content.
const MAY_PASS: [&str; 8] = [
    "address already in use",
    "cannot bind",
    "cannot assign requested address",
    "permission denied",
    "too many open files",
    "no buffer space",
    "cannot allocate memory",
    "temporarily unavailable",
];

/// Whether the same resource may be accepted later. Opening a listener depends on the machine, so
/// it always may.
pub(super) fn may_pass(type_url: &str, words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [LISTENER, EXTENSION].contains(&type_url) || MAY_PASS.iter().any(|some| words.contains(some))
}

impl Core {
    /// An Envoy rejected this version.
    pub(super) fn refused(&mut self, stream: StreamId, key: &Key, version: &str, words: &str) {
        self.tracker.heard(stream);
        self.acks.nacked(stream, key, version, words);
        self.dispute(stream, key, version);
        if may_pass(key.0, words) {
            let start = || Retry { backoff: Backoff::new(SHORTEST, LONGEST), at: None };
            let retry = self.retries.entry((stream, key.clone())).or_insert_with(start);
            retry.at = Some(Instant::now() + retry.backoff.next());
            return;
        }
        let of = (self.gateway_of(stream), key.clone());
        let (version, words) = (version.to_owned(), words.to_owned());
        let known = self.doubts.get(&of).filter(|doubt| doubt.version == version);
        let until = known.map_or_else(|| Instant::now() + HEARING, |doubt| doubt.until);
        self.doubts.insert(of.clone(), Doubt { version, words, until });
        self.judge(&of);
    }

    /// An Envoy accepted this version, or removed the resource.
    pub(super) fn answered(&mut self, stream: StreamId, key: &Key) {
        let was_refused = self.retries.remove(&(stream, key.clone())).is_some();
        if was_refused && key.0 == LISTENER {
            self.reopened.insert(stream);
        }
        let own = self.gateway_of(stream);
        // An Envoy that serves all gateways has answered for each of them.
        let heard = |(gateway, of): &&(String, Key)| {
            of == key && (own.is_empty() || gateway.is_empty() || *gateway == own)
        };
        let doubts: Vec<_> = self.doubts.keys().filter(heard).cloned().collect();
        doubts.iter().for_each(|of| self.judge(of));
    }

    /// An Envoy connected; it should judge what it has not rejected itself.
    pub(super) fn came(&mut self, stream: StreamId) {
        let unheard = self.tracker.unheard_by(stream);
        self.try_again(&unheard);
    }

    /// An Envoy disconnected; its verdicts are dropped.
    pub(super) fn left(&mut self, stream: StreamId) {
        self.retries.retain(|(of, _), _| *of != stream);
        self.acks.close(stream);
        self.tracker.close(stream);
        self.judge_all();
        let free = self.tracker.refused_by_nobody();
        self.try_again(&free);
    }

    /// Advances the time.
    pub(super) fn tick(&mut self, ads: &AdsServer) {
        let now = Instant::now();
        self.tracker.tick(now.saturating_duration_since(self.started));
        self.sweep_former_rules(now);
        self.judge_all();
        self.change_doors(ads);
        self.tick_paths(now);
        self.tick_drifts(now);
        self.scopes_arrived();
        self.let_go();
        for ((stream, key), retry) in &mut self.retries {
            if retry.at.take_if(|at| *at <= now).is_some() {
                for stream in self.streams.of(*stream, key.0) {
                    ads.retry(stream, &TypeUrl::from(key.0), &key.1);
                }
            }
        }
    }

    fn judge_all(&mut self) {
        let doubts: Vec<_> = self.doubts.keys().cloned().collect();
        doubts.iter().for_each(|of| self.judge(of));
    }

    fn judge(&mut self, of: &(String, Key)) {
        let Some(doubt) = self.doubts.get(of) else { return };
        let (gateway, key) = of;
        let votes = self.acks.votes(&self.tracker, gateway, key, &doubt.version);
        let moot = votes.accepted || votes.refused_by.is_empty();
        if !moot && votes.missing && Instant::now() < doubt.until {
            return;
        }
        let Some(Doubt { version, words, .. }) = self.doubts.remove(of) else { return };
        if moot {
            return;
        }
        // Before they fall back to something else.
        let described = |id: &Arc<str>| (id.clone(), self.assembly.described(id, key.0, &key.1));
        let described: HashMap<_, _> = self.acks.users_of(key).map(described).collect();
        let (delta, blames) = self.assembly.nacked(gateway, key.0, &key.1, &version);
        self.stage(delta);
        for blame in blames {
            let resource = described.get(&*blame.publish_id).map_or(&*key.1, String::as_str);
            self.blame(&blame, &envoy_nack(key.0, resource, &words), &votes.refused_by);
        }
    }

    /// Rolls the routes back, and stores that for a restart. Their access rules are still held.
    fn blame(&mut self, blame: &Blame, error: &pb::PublishError, by: &[String]) {
        let Blame { publish_id: id, revision } = blame;
        tracing::warn!(publish = %id, revision, words = %error.envoy_message, "Envoy refused a revision");
        self.tracker.refuse(id, *revision, error.clone(), by);
        let status = pb::PublishStatus {
            publish_id: id.clone(),
            revision: *revision,
            error: Some(error.clone()),
            ..Default::default()
        };
        let by = RefusedBy { marks: by.to_vec() };
        let row = [status.encode_to_vec(), by.encode_to_vec()].concat();
        match self.revisions.get(&**id).and_then(|known| known.former.as_ref()) {
            Some(former) => {
                let wire = former.wire.bytes();
                let version = imp_proto::content_version(&wire);
                let resource = imp_xds::Resource::new(id.as_str(), version, wire);
                let row = lkg::row(ResourceType::Publish.type_url(), &resource);
                self.lkg.put(Table::Former, id.clone(), row);
            }
            None => self.lkg.remove(Table::Former, id.clone()),
        }
        // Written after it: a rejection without its fallback would serve nothing after a restart.
        self.lkg.put(Table::Refused, id.clone(), row);
        self.note_stale(id);
    }

    /// The gateway of the Envoy; empty if it serves all.
    fn gateway_of(&self, stream: StreamId) -> String {
        self.tracker.target(stream).and_then(|node| node.gateway.clone()).unwrap_or_default()
    }

    /// Tries refused revisions again, with one stamp: those with equal content share a table again.
    fn try_again(&mut self, ids: &[Arc<str>]) {
        let stamp = random();
        for id in ids {
            let Some(delta) = self.assembly.retry(id, stamp) else { continue };
            tracing::info!(publish = %id, "a refused revision is tried again");
            self.tracker.withdraw(id);
            self.keep_no_refusal(id);
            self.stage(delta);
            self.note_stale(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use imp_translate::xds::SCOPE;

    use super::*;

    #[test]
    fn what_has_nothing_to_do_with_the_content_may_pass() {
        let bind = "error adding listener: cannot bind '0.0.0.0:80': Address already in use";
        assert!(may_pass(LISTENER, bind) && may_pass(SCOPE, bind));
        assert!(may_pass(LISTENER, "whatever it is") && may_pass(EXTENSION, "whatever it is"));
        assert!(may_pass(SCOPE, "Too many open files"));
        assert!(!may_pass(SCOPE, "invalid repetition size: {1500}"));
    }
}
