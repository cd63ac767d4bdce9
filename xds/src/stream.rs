//! One client's stream as a pure state machine: requests and the clock go in, responses come out.
//!
//! [`Stream::request`] takes a message of the client, [`Stream::poll`] returns what to send now,
//! [`Stream::deadline`] when to poll again if nothing happens. State is kept per type (R5): the
//! subscriptions, what changed since the last read of the resource set, and the one response that
//! is not answered yet (R80). The stream reads the resource set whenever it sends, so it can be
//! slow but never wrong (R81).

mod awaited;
mod due;
mod fill;
mod first_answers;
mod heartbeats;
mod nonce;
mod pace;
mod required;
mod response;
mod sending;
mod shapes;
mod subscription;
mod suspects;
mod type_stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Status;

use crate::resource_set::{Place, Reader, View};
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::{ResourceSet, ServerConfig, TypeRules, TypeUrl};
use awaited::Awaited;
use heartbeats::knows_ttl;
use nonce::Nonces;
use pace::Pace;
use sending::HeldUp;

pub(crate) use response::Entry;
pub use response::{Response, SentResource};
pub use type_stream::TypeStream;

/// The protocol of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Subscriptions and responses are differences.
    Delta,
    /// Each request lists all subscriptions; a response cannot express removals.
    StateOfTheWorld,
}

/// The client's answer to a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub type_url: TypeUrl,
    /// The content of the response; after a rejection only the possible causes, which removals are
    /// not.
    pub resources: Arc<[SentResource]>,
    /// When the response was sent.
    pub sent_at: Instant,
    /// `None` for an ACK; otherwise the client's error message.
    pub refusal: Option<String>,
}

/// The effects of a request besides its subscriptions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The type of the request; `None` if it was stale and ignored.
    pub type_url: Option<TypeUrl>,
    /// The answer to a response, if it has one.
    pub answer: Option<Answer>,
    /// What the client already has in current versions, so that it is not sent (R37).
    pub held: Vec<SentResource>,
}

/// After so many that wait for others ([`type_stream`]) other streams have their turn.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// One client's stream.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    reader: Reader,
    types: Vec<TypeStream>,
    /// The phase that others refer to, whether they are on this stream or not.
    lowest: Option<u8>,
    barrier: Duration,
    grace: Duration,
    max_types: usize,
    max_subscription_bytes: usize,
    awaited: Awaited,
    /// What an incomplete phase delays.
    held_up: Option<HeldUp>,
    nonces: Nonces,
    pace: Pace,
    /// Whether the client supports TTLs.
    knows_ttl: bool,
}

/// More unknown types than this on one stream indicate a mistake or an attack.
const MAX_UNKNOWN_TYPES: usize = 32;

/// The longest type URL.
const MAX_TYPE_URL: usize = 1024;

impl Stream {
    /// A delta client before its first message.
    pub fn new(set: ResourceSet, config: &ServerConfig) -> Self {
        Self::speaking(Variant::Delta, set, config)
    }

    /// A client of this protocol before its first message.
    pub fn speaking(variant: Variant, set: ResourceSet, config: &ServerConfig) -> Self {
        let mut rules = config.types.clone();
        rules.sort_by_key(|rule| rule.phase);
        Self {
            variant,
            reader: set.reader(),
            max_types: rules.len() + MAX_UNKNOWN_TYPES,
            lowest: rules.first().map(|rule| rule.phase),
            types: rules.into_iter().map(|rules| TypeStream::new(rules, variant)).collect(),
            barrier: config.barrier_timeout,
            grace: config.removal_grace,
            max_subscription_bytes: config.max_subscription_bytes,
            awaited: Awaited::default(),
            held_up: None,
            nonces: Nonces::default(),
            pace: Pace::new(config.debounce),
            knows_ttl: false,
        }
    }

    /// On the service of one type: no other one waits for it, and it waits for none (R1).
    #[must_use]
    pub fn serving_only(mut self, type_url: Option<&str>) -> Self {
        if let Some(only) = type_url {
            self.types.retain(|of_type| of_type.rules().type_url.as_str() == only);
        }
        self
    }

    /// The client's `node.client_features` (R75).
    #[must_use]
    pub fn with_features(mut self, features: &[String]) -> Self {
        self.knows_ttl = knows_ttl(self.variant, features);
        self.types.iter_mut().for_each(|of_type| of_type.tell_ttl(self.knows_ttl));
        self
    }

    /// The client rejected things on earlier streams: see [`crate::Admission::attempt`].
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.types.iter_mut().for_each(|of_type| of_type.start_attempts_at(attempt));
        self
    }

    /// Sends again what the client rejected and has not changed since. Returns false if there is no
    /// such resource.
    pub fn retry(&mut self, type_url: &TypeUrl, name: &str) -> bool {
        let set = self.reader.resource_set().clone();
        let view = set.view();
        self.absorb(&view);
        let of_type = self.types.iter_mut().find(|t| t.rules().type_url == *type_url);
        of_type.is_some_and(|of_type| of_type.retry(name, &view))
    }

    /// Sends everything again that the client subscribes to of a type: it silently lost what it
    /// had.
    pub fn resend(&mut self, type_url: &TypeUrl) {
        let set = self.reader.resource_set().clone();
        let view = set.view();
        let of_type = self.types.iter_mut().find(|t| t.rules().type_url == *type_url);
        of_type.into_iter().for_each(|of_type| of_type.resend(&view));
    }

    /// Handles a message of a delta client: subscriptions, and the answer to a response.
    pub fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<Outcome, Status> {
        self.step(&request.type_url, |of_type, view| {
            let error_detail = request.error_detail.as_ref();
            let answer = of_type.answer(&request.response_nonce, error_detail, view);
            let type_url = Some(of_type.rules().type_url.clone());
            Outcome { type_url, answer, held: of_type.subscribe(&request, view) }
        })
    }

    /// Handles a message of a state-of-the-world client.
    pub fn request_list(&mut self, request: DiscoveryRequest) -> Result<Outcome, Status> {
        self.step(&request.type_url, |of_type, view| {
            if of_type.is_stale(&request) {
                return Outcome::default();
            }
            let error_detail = request.error_detail.as_ref();
            let answer = of_type.answer(&request.response_nonce, error_detail, view);
            of_type.subscribe_list(&request, view);
            let type_url = Some(of_type.rules().type_url.clone());
            Outcome { type_url, answer, held: Vec::new() }
        })
    }

    fn step(
        &mut self,
        type_url: &str,
        take: impl FnOnce(&mut TypeStream, &View<'_>) -> Outcome,
    ) -> Result<Outcome, Status> {
        if type_url.is_empty() || type_url.len() > MAX_TYPE_URL {
            return Err(Status::invalid_argument("type_url is required on an aggregated stream"));
        }
        let set = self.reader.resource_set().clone();
        let view = set.view();
        self.absorb(&view);
        let of_type = self.of_type(type_url)?;
        let began = !of_type.has_begun();
        let outcome = take(of_type, &view);
        if began {
            self.release_type(type_url, &view);
        }
        if let Some(answer) = &outcome.answer {
            self.awaited
                .answered(&answer.type_url, answer.resources.iter().map(SentResource::name));
            self.release(answer, &view);
        }
        let names: usize = self.types.iter().map(TypeStream::subscription_bytes).sum();
        if names > self.max_subscription_bytes {
            return Err(Status::resource_exhausted("too many names on one stream"));
        }
        Ok(outcome)
    }

    /// Returns everything that should be sent now.
    pub fn poll(&mut self, now: Instant) -> Vec<Response> {
        let set = self.reader.resource_set().clone();
        let view = set.view();
        self.absorb(&view);
        let out = self.send(&view, now);
        self.types.iter_mut().for_each(|of_type| of_type.note_pending(now));
        out
    }

    /// When to poll again without an event: a barrier, a grace period or a debounce ends, a heartbeat is
    /// due, or not all that is due was looked at.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let heartbeats = self.types.iter().filter_map(TypeStream::next_heartbeat);
        let heartbeat = heartbeats.filter(|&due| due > now).min();
        heartbeat.into_iter().chain(self.deadline_of_work(now)).min()
    }

    fn deadline_of_work(&self, now: Instant) -> Option<Instant> {
        if !self.has_work() {
            return None;
        }
        let barriers = self.types.iter().filter_map(TypeStream::in_flight_since);
        let barriers = barriers.chain(self.held_up.map(|held_up| held_up.since));
        let barriers = barriers.filter_map(|since| since.checked_add(self.barrier));
        let graces = self.types.iter().filter_map(TypeStream::removals_since);
        let graces = graces.filter_map(|since| since.checked_add(self.grace));
        let others = self.awaited.deadline().into_iter().chain(self.pace.deadline());
        let others = others.chain(self.gate_deadlines());
        let looks_again = self.types.iter().any(TypeStream::looks_again);
        let others = others.chain(looks_again.then(|| now + LOOK_AGAIN));
        barriers.chain(graces).chain(others).filter(|&due| due > now).min()
    }

    /// Since when the oldest response has been unanswered.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.types.iter().filter_map(TypeStream::in_flight_since).min()
    }

    /// Whether the client has acknowledged everything that it subscribes to.
    pub fn is_settled(&self) -> bool {
        self.is_idle() && !self.types.iter().any(TypeStream::has_waiting)
    }

    /// Whether it has acknowledged everything but what waits for a required resource (R68).
    pub fn is_idle(&self) -> bool {
        self.unanswered_since().is_none() && !self.has_work()
    }

    /// Whether anything is pending: it waits for the client's answer, another type, or time. What
    /// waits for a required resource is not pending until the client has that.
    pub fn has_work(&self) -> bool {
        self.types.iter().any(TypeStream::has_work)
    }

    /// Whether heartbeats are needed: after an answer, the next time is known.
    pub(crate) fn has_heartbeats(&self) -> bool {
        self.types.iter().any(TypeStream::has_heartbeats)
    }

    /// Its position in the history of its resource set.
    pub(crate) fn place(&self) -> &Arc<Place> {
        self.reader.place()
    }

    /// The state of each type (R92).
    pub fn types(&self) -> &[TypeStream] {
        &self.types
    }

    fn absorb(&mut self, view: &View<'_>) {
        let since = self.reader.seen();
        if view.position() != since {
            for of_type in &mut self.types {
                if of_type.absorb(view, since) {
                    self.pace.changed();
                }
            }
            self.release_gone(view, since);
            self.reader.has_seen(view);
        }
    }

    fn of_type(&mut self, type_url: &str) -> Result<&mut TypeStream, Status> {
        let known = self.types.iter().position(|t| t.rules().type_url.as_str() == type_url);
        let index = match known {
            Some(index) => index,
            None if self.types.len() >= self.max_types => {
                return Err(Status::resource_exhausted("too many types on one stream"));
            }
            None => {
                let rules = TypeRules::new(type_url, u8::MAX);
                let mut unknown = TypeStream::new(rules, self.variant);
                unknown.tell_ttl(self.knows_ttl);
                self.types.push(unknown);
                self.types.len() - 1
            }
        };
        self.types.get_mut(index).ok_or_else(|| Status::internal("type vanished"))
    }
}
