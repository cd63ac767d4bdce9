//! One type on one stream: what is due, in flight, or rejected.

mod answers;
mod content;
mod due;
mod first;
mod former;
mod kept;
mod pick;
mod sotw;
mod subscribing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::due::{Due, Kind};
use super::fill::Fill;
use super::first_answers::{Answered, FirstAnswer, Gate};
use super::heartbeats::Heartbeats;
use super::nonce::Nonce;
use super::required::Waiting;
use super::shapes::{self, Shapes};
use super::subscription::Subscription;
use super::suspects::Suspects;
use super::{Entry, Response, SentResource, Variant};
use crate::resource_set::{Position, View};
use crate::{Resource, TypeRules, TypeUrl};

use content::Content;

/// One type on one stream.
#[derive(Debug)]
pub struct TypeStream {
    rules: TypeRules,
    variant: Variant,
    subscription: Subscription,
    /// Requested by name: answered before anything else.
    asked: Due,
    /// Requested names that do not exist, and collections.
    missing: BTreeSet<Arc<str>>,
    /// New or changed.
    upserts: Due,
    /// Due, but the client lacks something that they require (R68).
    waiting: Waiting,
    /// Which kind is sent next, if both are due.
    turn: Kind,
    /// Each with the time since when only time delays it.
    removals: BTreeMap<Arc<str>, Option<Instant>>,
    /// Removals that go with what replaces them, which cannot be sent yet.
    former: HashSet<Arc<str>>,
    /// Removed from the resource set but not yet from full responses.
    leaving: HashMap<Arc<str>, Resource>,
    /// Everything became subscribed and was not scanned yet: the scan costs as much as there is, so
    /// it happens when sending, which a client can cause only by answering.
    scan_due: bool,
    /// A first wildcard request is answered even if there is nothing (R39).
    answer_due: bool,
    /// The rest of the first answer to a wildcard client that had nothing.
    fill: Option<Fill>,
    /// The first answer to a wildcard client is not complete: it has everything up to this position
    /// (R93).
    filling: Option<Position>,
    /// Requested names that the client had in their current versions when the stream began.
    held_at_start: HashSet<Arc<str>>,
    /// Members of a full response that the client rejected.
    doubted: HashSet<Arc<str>>,
    in_flight: Option<InFlight>,
    /// Whether other types go first (R69).
    gate: Gate,
    first_answer: FirstAnswer,
    /// When the last answer came; known when the stream is polled next.
    answered_at: Answered,
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
    shapes: Shapes,
    /// Not all that is due has been looked at.
    looks_again: bool,
    heartbeats: Heartbeats,
    counts: Counts,
}

#[derive(Debug)]
struct InFlight {
    nonce: Nonce,
    since: Instant,
    /// The position of the resource set at that time.
    position: Position,
    resources: Arc<[SentResource]>,
    /// It has nothing new, so nothing waits for it.
    is_heartbeat: bool,
    /// The names of new or changed resources, once something requires one of this type.
    upserts: OnceLock<HashSet<Arc<str>>>,
    /// The shapes of all that it has, once a later phase asks.
    shapes: OnceLock<Option<Vec<u64>>>,
}

impl InFlight {
    /// Whether it has this resource, new or changed.
    fn has(&self, name: &str) -> bool {
        let upserts = self.upserts.get_or_init(|| {
            let upserts = self.resources.iter().filter(|sent| matches!(sent.0, Entry::Upsert(..)));
            upserts.map(|sent| sent.name().clone()).collect()
        });
        upserts.contains(name)
    }

    fn shapes(&self, rules: &TypeRules) -> Option<&[u64]> {
        let shape = rules.shape?;
        let of_response = || shapes::of_response(shape, &self.resources);
        self.shapes.get_or_init(of_response).as_deref()
    }
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
            gate: Gate::new(&rules),
            first_answer: FirstAnswer::default(),
            answered_at: Answered::default(),
            rules,
            variant,
            subscription: Subscription::default(),
            asked: Due::default(),
            missing: BTreeSet::new(),
            upserts: Due::default(),
            waiting: Waiting::default(),
            turn: Kind::Unproven,
            removals: BTreeMap::new(),
            former: HashSet::new(),
            leaving: HashMap::new(),
            scan_due: false,
            answer_due: false,
            fill: None,
            filling: None,
            held_at_start: HashSet::new(),
            doubted: HashSet::new(),
            in_flight: None,
            last_nonce: None,
            pending_since: None,
            refused: HashMap::new(),
            last_refusal: None,
            suspects: Suspects::default(),
            attempt: 0,
            suspects_turn: false,
            shapes: Shapes::default(),
            looks_again: false,
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
        let again = self.subscription.wants(&name) && self.make_due(&name, view);
        self.attempt = self.attempt.saturating_add(u32::from(again));
        again
    }

    /// Sends everything subscribed again, as soon as possible.
    pub(super) fn resend(&mut self, view: &View<'_>) {
        self.scan_due |= self.subscription.is_wildcard();
        let names: Vec<_> = self.subscription.list().cloned().collect();
        names.into_iter().for_each(|name| self.ask(name, view));
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
        self.sendable() + self.waiting.len()
    }

    /// The number of pending changes that wait for no required resource.
    fn sendable(&self) -> usize {
        let asked = self.asked.len() + self.missing.len();
        let upserts = self.upserts.len() + self.fill.as_ref().map_or(0, |fill| fill.left().max(1));
        asked + upserts + self.removals.len() + self.suspects.len()
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

    /// Whether anything can be sent, now or later, without another answer of a different type.
    pub(super) fn has_work(&self) -> bool {
        self.sendable() > 0 || self.answer_due || self.scan_due
    }

    /// Whether there was a request.
    pub(super) fn has_begun(&self) -> bool {
        self.subscription.started()
    }

    pub(super) fn required_types(&self) -> &[TypeUrl] {
        self.waiting.types()
    }

    /// Whether something waits for a required resource.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the first answer to a wildcard client is due.
    pub(super) fn owes_answer(&self) -> bool {
        self.answer_due || self.scan_due
    }

    /// Whether the next response continues the first answer.
    pub(super) fn continues_first_answer(&self) -> bool {
        self.filling.is_some_and(|until| self.has_to_fill(until))
    }

    /// Whether there may be something to send that was not looked at.
    pub(super) fn looks_again(&self) -> bool {
        self.looks_again && self.in_flight.is_none() && self.has_work()
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub(super) fn note_pending(&mut self, now: Instant) {
        let is_pending = self.has_work() || self.has_waiting();
        self.pending_since = is_pending.then(|| *self.pending_since.get_or_insert(now));
    }

    pub(super) fn removals_since(&self) -> Option<Instant> {
        self.removals.values().copied().flatten().min()
    }

    pub(super) fn is_waiting(&self, now: Instant, barrier: Duration) -> bool {
        let in_flight = self.in_flight.as_ref().filter(|f| now - f.since < barrier);
        in_flight.is_some_and(|f| !f.is_heartbeat || self.has_work())
    }

    /// Whether later phases wait for this type.
    pub(super) fn holds_up(&self, now: Instant, barrier: Duration) -> bool {
        let waits = self.has_changes() || !self.will_be_acknowledged();
        self.looks_again() || (self.is_waiting(now, barrier) && waits)
    }

    fn has_changes(&self) -> bool {
        let asked = self.asked.len() + self.missing.len();
        asked + self.upserts.len() + self.suspects.len() > 0
            || self.fill.is_some()
            || self.answer_due
            || self.scan_due
    }

    /// Whether all of the response in flight has shapes that the client has acknowledged.
    fn will_be_acknowledged(&self) -> bool {
        let shapes = self.in_flight.as_ref().and_then(|f| f.shapes(&self.rules));
        shapes.is_some_and(|shapes| self.shapes.has_all(shapes))
    }

    /// The memory of the names, for the stream's limit.
    pub(super) fn subscription_bytes(&self) -> usize {
        self.subscription.bytes()
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
        self.in_flight = Some(InFlight {
            nonce,
            since: now,
            position: view.position(),
            resources: response.sent.clone(),
            is_heartbeat,
            upserts: OnceLock::new(),
            shapes: OnceLock::new(),
        });
        self.last_nonce = Some(nonce);
        response
    }
}
