//! One type on one stream: what is due, in flight, or rejected.

mod answers;
mod content;
mod due;
mod kept;
mod sotw;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heartbeats::Heartbeats;
use super::nonce::Nonce;
use super::subscription::{Changed, Glob, Subscription};
use super::suspects::Suspects;
use super::{Entry, Response, SentResource, Variant};
use crate::resource_set::View;
use crate::wire::DeltaDiscoveryRequest;
use crate::{Resource, Revision, TypeRules};

use content::Content;

/// One type on one stream.
#[derive(Debug)]
pub struct TypeStream {
    rules: TypeRules,
    variant: Variant,
    subscription: Subscription,
    /// Requested by name: answered before anything else.
    asked: BTreeSet<Arc<str>>,
    upserts: BTreeSet<Arc<str>>,
    /// Each with the time since when only time delays it.
    removals: BTreeMap<Arc<str>, Option<Instant>>,
    /// Removed from the resource set but not yet from full responses.
    leaving: HashMap<Arc<str>, Resource>,
    /// Everything became subscribed and was not scanned yet: the scan costs as much as there is, so
    /// it happens when sending, which a client can cause only by answering.
    scan_due: bool,
    /// A first wildcard request is answered even if there is nothing (R39).
    answer_due: bool,
    /// Where the next response continues, when the last one was full (R93).
    resume_at: Option<Arc<str>>,
    /// The first answer to a wildcard client is not complete.
    filling: bool,
    in_flight: Option<InFlight>,
    last_nonce: Option<Nonce>,
    pending_since: Option<Instant>,
    /// Versions that the client rejected: never sent again unchanged (R33).
    refused: HashMap<Arc<str>, Arc<str>>,
    /// The last error message.
    last_refusal: Option<Arc<str>>,
    suspects: Suspects,
    /// Added to the attempts of suspects, so that rejected bytes are not sent again.
    attempt: u32,
    /// Suspects and others alternate, so that neither waits for the other (R36).
    suspects_turn: bool,
    heartbeats: Heartbeats,
    counts: Counts,
}

#[derive(Debug)]
struct InFlight {
    nonce: Nonce,
    since: Instant,
    /// The revision of the resource set at that time.
    revision: Revision,
    resources: Arc<[SentResource]>,
    /// It has nothing new, so nothing waits for it.
    is_heartbeat: bool,
}

/// Counts of responses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses refused.
    pub nacked: u64,
}

impl TypeStream {
    pub(super) fn new(rules: TypeRules, variant: Variant) -> Self {
        Self {
            rules,
            variant,
            subscription: Subscription::default(),
            asked: BTreeSet::new(),
            upserts: BTreeSet::new(),
            removals: BTreeMap::new(),
            leaving: HashMap::new(),
            scan_due: false,
            answer_due: false,
            resume_at: None,
            filling: false,
            in_flight: None,
            last_nonce: None,
            pending_since: None,
            refused: HashMap::new(),
            last_refusal: None,
            suspects: Suspects::default(),
            attempt: 0,
            suspects_turn: false,
            heartbeats: Heartbeats::default(),
            counts: Counts::default(),
        }
    }

    /// Sets whether the client supports TTLs (R75).
    pub(super) fn tell_ttl(&mut self, known: bool) {
        self.heartbeats.enable(known);
    }

    pub(super) fn start_attempts_at(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    /// Sends again what was rejected, in other bytes if the type can (R33).
    pub(super) fn retry(&mut self, name: &str, view: &View<'_>) -> bool {
        let Some((name, _)) = self.refused.remove_entry(name) else { return false };
        let wanted = self.subscription.wants(&name);
        if !wanted || view.get(&self.rules.type_url, &name).is_none() {
            return false;
        }
        self.attempt = self.attempt.saturating_add(1);
        self.upserts.insert(name)
    }

    /// Sends everything subscribed again, as soon as possible.
    pub(super) fn resend(&mut self) {
        self.scan_due |= self.subscription.is_wildcard();
        self.asked.extend(self.subscription.list().cloned());
    }

    /// The rules of this type.
    pub fn rules(&self) -> &TypeRules {
        &self.rules
    }

    /// The counts of responses so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether everything is subscribed, and how many names are.
    pub fn subscribed(&self) -> (bool, usize) {
        (self.subscription.is_wildcard(), self.subscription.names())
    }

    /// The number of pending changes.
    pub fn pending(&self) -> usize {
        self.asked.len() + self.upserts.len() + self.removals.len() + self.suspects.len()
    }

    /// Names and versions that the client rejected and that nothing has replaced yet.
    pub fn refused(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.refused.iter()
    }

    /// The error message of the last rejection.
    pub fn last_refusal(&self) -> Option<&Arc<str>> {
        self.last_refusal.as_ref()
    }

    /// Since when something has been pending without a break.
    pub fn pending_since(&self) -> Option<Instant> {
        self.pending_since
    }

    /// Since when a response has been unanswered.
    pub fn in_flight_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|f| f.since)
    }

    pub(super) fn has_work(&self) -> bool {
        self.pending() > 0 || self.answer_due || self.scan_due
    }

    /// Whether the first answer to a wildcard client is due.
    pub(super) fn owes_answer(&self) -> bool {
        self.answer_due || self.scan_due
    }

    /// Whether the next response continues the first answer.
    pub(super) fn continues_first_answer(&self) -> bool {
        self.filling && self.resume_at.is_some()
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub(super) fn note_pending(&mut self, now: Instant) {
        self.pending_since = self.has_work().then(|| *self.pending_since.get_or_insert(now));
    }

    pub(super) fn removals_since(&self) -> Option<Instant> {
        self.removals.values().copied().flatten().min()
    }

    pub(super) fn is_waiting(&self, now: Instant, barrier: Duration) -> bool {
        let in_flight = self.in_flight.as_ref().filter(|f| now - f.since < barrier);
        in_flight.is_some_and(|f| !f.is_heartbeat || self.has_work())
    }

    /// The memory of the names, for the stream's limit.
    pub(super) fn subscription_bytes(&self) -> usize {
        self.subscription.bytes()
    }

    /// Handles the subscription part of a request; returns what need not be sent to the client.
    pub(super) fn subscribe(
        &mut self,
        request: &DeltaDiscoveryRequest,
        view: &View<'_>,
    ) -> Vec<SentResource> {
        let first = !self.subscription.started();
        let subscribe = &request.resource_names_subscribe;
        let unsubscribe = &request.resource_names_unsubscribe;
        let changed = self.subscription.update(subscribe, unsubscribe, self.rules.legacy_wildcard);
        // Envoy opens the stream for virtual hosts like that. The answer proves that the server
        // listens.
        self.answer_due |= changed.is_bare;
        let mut same = Vec::new();
        if changed.became_wildcard && first {
            let versions = request.initial_resource_versions.iter();
            let held = versions.map(|(n, v)| (n.as_str(), v.as_str())).collect();
            same = self.start_wildcard(&held, view);
        } else if changed.became_wildcard {
            // Only the first request of a type may name what was held before the stream (R37).
            self.scan_due = true;
        }
        self.follow(changed, view);
        same
    }

    fn follow(&mut self, changed: Changed, view: &View<'_>) {
        for mut name in changed.asked {
            if let Some(behind) = view.alias(&self.rules.type_url, &name)
                && self.subscription.has(&name)
            {
                self.subscription.link(&name, behind);
                name = behind.clone();
            }
            if let Some(resource) = view.get(&self.rules.type_url, &name) {
                self.subscription.share(resource.name());
                name = resource.name().clone();
            }
            self.refused.remove(&name); // asked for again: a new request (R33)
            self.suspects.release(&name);
            self.asked.insert(name);
        }
        self.answer_due &= !changed.ended_wildcard;
        self.filling &= !changed.ended_wildcard;
        self.scan_due &= self.subscription.is_wildcard();
        if changed.ended_wildcard || !changed.dropped.is_empty() {
            let Self { subscription, asked, upserts, removals, leaving, refused, .. } = self;
            let Self { suspects, heartbeats, .. } = self;
            asked.retain(|name| subscription.wants(name));
            upserts.retain(|name| subscription.wants(name));
            removals.retain(|name, _| subscription.wants(name));
            leaving.retain(|name, _| subscription.wants(name));
            refused.retain(|name, _| subscription.wants(name));
            suspects.retain(|name| subscription.wants(name));
            heartbeats.retain(|name| subscription.wants(name));
        }
    }

    /// Scans everything, when it can be sent: for a new wildcard, and for requested collections,
    /// which stand for their members, or for themselves if they have none, so that they are
    /// answered (R14, R20).
    pub(super) fn catch_up(&mut self, view: &View<'_>) {
        if self.in_flight.is_some() {
            return;
        }
        if std::mem::take(&mut self.scan_due) {
            self.start_wildcard(&HashMap::new(), view);
        }
        let globs: Vec<_> = self.asked.iter().filter_map(Glob::parse).collect();
        for glob in globs {
            let all = view.each(&self.rules.type_url).map(Resource::name);
            let members: Vec<_> = all.filter(|name| glob.matches(name)).cloned().collect();
            if !members.is_empty() {
                self.asked.remove(glob.text());
                self.asked.extend(members);
            }
        }
    }

    /// Compares what the client has with the resource set (R37).
    fn start_wildcard(&mut self, held: &HashMap<&str, &str>, view: &View<'_>) -> Vec<SentResource> {
        (self.answer_due, self.filling, self.resume_at) = (true, true, None);
        let type_url = &self.rules.type_url;
        let (mut same, mut due) = (Vec::new(), Vec::new());
        for resource in view.each(type_url) {
            let (name, version) = (resource.name(), resource.version());
            if held.get(&**name) == Some(&&**version) {
                same.push(SentResource(Entry::Unchanged(resource.clone())));
                self.heartbeats.hold(resource, None);
            } else {
                self.suspects.clear(name);
                due.push(name.clone());
            }
        }
        // Building a set from many at once costs a fraction of inserting them.
        self.upserts.append(&mut BTreeSet::from_iter(due));
        let gone = held.keys().filter(|name| !view.exists(type_url, name));
        self.removals.extend(gone.map(|&name| (Arc::from(name), None)));
        same
    }

    /// Reads the changes of the resource set, at a cost proportional to them. Returns whether they
    /// concern the client.
    pub(super) fn absorb(&mut self, view: &View<'_>, since: Revision) -> bool {
        let mut concerned = false;
        for name in view.changed_since(&self.rules.type_url, since) {
            let now = view.get(&self.rules.type_url, name);
            for alias in now.map(Resource::aliases).unwrap_or_default() {
                if self.subscription.has(alias) {
                    self.subscription.link(alias, name);
                }
            }
            if !self.subscription.wants(name) {
                continue;
            }
            concerned = true;
            self.suspects.clear(name);
            if now.is_some() {
                self.removals.remove(name);
                self.leaving.remove(name);
                self.upserts.insert(name.clone());
            } else if view.exists(&self.rules.type_url, name) {
                // Retained: the client keeps what it has.
                self.removals.remove(name);
            } else {
                self.upserts.remove(name);
                self.heartbeats.forget(name);
                self.removals.insert(name.clone(), None);
                let last = view.removed(&self.rules.type_url, name);
                if let Some(last) = last.filter(|_| self.sends_full_state()) {
                    self.leaving.insert(name.clone(), last.clone());
                }
            }
        }
        concerned
    }

    /// Sends a child again because its parent is sent. Returns true if the client has yet to
    /// request it.
    pub(super) fn follow_parent(&mut self, name: &Arc<str>, view: &View<'_>) -> bool {
        let exists = view.get(&self.rules.type_url, name).is_some();
        let wanted = self.subscription.wants(name);
        if exists && wanted {
            self.upserts.insert(name.clone());
        }
        exists && !wanted
    }

    /// Sends the subscribed names of a parent again, because the parent is sent (R70).
    pub(super) fn follow_prefix(&mut self, parent: &str, view: &View<'_>) {
        let of_parent = |name: &str| name.rsplit_once('/').is_some_and(|(of, _)| of == parent);
        let names = self.subscription.list().filter(|name| of_parent(name));
        let exist = names.filter(|name| view.get(&self.rules.type_url, name).is_some());
        self.upserts.extend(exist.cloned());
    }

    pub(super) fn send(
        &mut self,
        content: Content,
        view: &View<'_>,
        nonce: Nonce,
        now: Instant,
    ) -> Response {
        self.counts.sent += 1;
        // The type's version, not this response's, so that versions in Envoy's config dump can be
        // compared.
        let version_info = view.version_of(&self.rules.type_url);
        let (is_heartbeat, more) = (content.is_heartbeat, content.more);
        let response = Response {
            type_url: self.rules.type_url.clone(),
            nonce: nonce.to_string(),
            version_info,
            sent: content.into_list(),
            more,
            tells_ttl: self.heartbeats.is_enabled(),
        };
        let (revision, resources) = (view.revision(), response.sent.clone());
        self.in_flight = Some(InFlight { nonce, since: now, revision, resources, is_heartbeat });
        self.last_nonce = Some(nonce);
        response
    }
}
