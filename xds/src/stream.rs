//! One client's stream as a pure state machine: requests and the clock go in, responses come out.
//!
//! [`Stream::request`] takes a message of the client, [`Stream::poll`] says what to send now,
//! [`Stream::deadline`] when to poll again if nothing happens. State is kept per type (R5): what is
//! subscribed, what changed since the last look at the resource set, and the one response that is not
//! answered yet (R80). The stream reads the resource set whenever it sends, so it can be slow but never
//! wrong (R81).

mod awaited;
mod heartbeats;
mod nonce;
mod pace;
mod response;
mod sending;
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

pub(crate) use response::Entry;
pub use response::{Response, SentResource};
pub use type_stream::TypeStream;

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Subscriptions and responses are differences.
    Delta,
    /// Each request lists what is wanted; a response can not say that something is gone.
    StateOfTheWorld,
}

/// How the client answered a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of which type.
    pub type_url: TypeUrl,
    /// What was in the response; of a refused one what may be the cause, which removals are not.
    pub resources: Arc<[SentResource]>,
    /// When the response was sent.
    pub sent_at: Instant,
    /// None: an ACK. Otherwise the client's words.
    pub refusal: Option<String>,
}

/// What a request said besides its subscriptions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of which type the request was. None: it was stale, and nothing was taken.
    pub type_url: Option<TypeUrl>,
    /// It answered a response.
    pub answer: Option<Answer>,
    /// What the client holds already in the versions of the resource set, so that it is not sent (R37).
    pub held: Vec<SentResource>,
}

/// One client's stream.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    reader: Reader,
    types: Vec<TypeStream>,
    barrier: Duration,
    grace: Duration,
    max_types: usize,
    max_subscription_bytes: usize,
    awaited: Awaited,
    /// Since when a phase has kept later ones from work that they have.
    held_up_since: Option<Instant>,
    nonces: Nonces,
    pace: Pace,
    /// The client can be told how long it may hold what it gets.
    knows_ttl: bool,
}

/// More unknown types than this on one stream are a mistake or an attack.
const MAX_UNKNOWN_TYPES: usize = 32;

/// Longer ones exist nowhere.
const MAX_TYPE_URL: usize = 1024;

impl Stream {
    /// A delta client that has not said anything yet.
    pub fn new(set: ResourceSet, config: &ServerConfig) -> Self {
        Self::speaking(Variant::Delta, set, config)
    }

    /// A client of this protocol that has not said anything yet.
    pub fn speaking(variant: Variant, set: ResourceSet, config: &ServerConfig) -> Self {
        let mut rules = config.types.clone();
        rules.sort_by_key(|rule| rule.phase);
        Self {
            variant,
            reader: set.reader(),
            max_types: rules.len() + MAX_UNKNOWN_TYPES,
            types: rules.into_iter().map(|rules| TypeStream::new(rules, variant)).collect(),
            barrier: config.barrier_timeout,
            grace: config.removal_grace,
            max_subscription_bytes: config.max_subscription_bytes,
            awaited: Awaited::default(),
            held_up_since: None,
            nonces: Nonces::default(),
            pace: Pace::new(config.debounce),
            knows_ttl: false,
        }
    }

    /// The client lists these in its `node.client_features` (R75).
    #[must_use]
    pub fn with_features(mut self, features: &[String]) -> Self {
        self.knows_ttl = knows_ttl(self.variant, features);
        self.types.iter_mut().for_each(|of_type| of_type.tell_ttl(self.knows_ttl));
        self
    }

    /// The client refused things on earlier streams: see [`crate::Admission::attempt`].
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.types.iter_mut().for_each(|of_type| of_type.start_attempts_at(attempt));
        self
    }

    /// What the client refused, and what has not changed since, is sent once more. False: there is
    /// no such thing.
    pub fn retry(&mut self, type_url: &TypeUrl, name: &str) -> bool {
        let set = self.reader.resource_set().clone();
        let view = set.view();
        self.absorb(&view);
        let of_type = self.types.iter_mut().find(|t| t.rules().type_url == *type_url);
        of_type.is_some_and(|of_type| of_type.retry(name, &view))
    }

    /// Sends everything again that the client wants of a type: it lost what it had, and does not say so.
    pub fn resend(&mut self, type_url: &TypeUrl) {
        let mut of_type = self.types.iter_mut().filter(|t| t.rules().type_url == *type_url);
        of_type.by_ref().for_each(TypeStream::resend);
    }

    /// Takes a message of a delta client: subscriptions, and the answer to a response.
    pub fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<Outcome, Status> {
        self.step(&request.type_url, |of_type, view| {
            let error_detail = request.error_detail.as_ref();
            let answer = of_type.answer(&request.response_nonce, error_detail, view);
            let type_url = Some(of_type.rules().type_url.clone());
            Outcome { type_url, answer, held: of_type.subscribe(&request, view) }
        })
    }

    /// Takes a message of a state-of-the-world client.
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
        let outcome = take(self.of_type(type_url)?, &view);
        if let Some(answer) = &outcome.answer {
            self.awaited
                .answered(&answer.type_url, answer.resources.iter().map(SentResource::name));
        }
        let names: usize = self.types.iter().map(TypeStream::subscription_bytes).sum();
        if names > self.max_subscription_bytes {
            return Err(Status::resource_exhausted("too many names on one stream"));
        }
        Ok(outcome)
    }

    /// Everything that should be sent now.
    pub fn poll(&mut self, now: Instant) -> Vec<Response> {
        let set = self.reader.resource_set().clone();
        let view = set.view();
        self.absorb(&view);
        let out = self.send(&view, now);
        self.types.iter_mut().for_each(|of_type| of_type.note_pending(now));
        out
    }

    /// When to poll again although nothing happened: a barrier or a grace period or a debounce ends,
    /// or a heartbeat is due.
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
        let barriers = barriers.chain(self.held_up_since);
        let barriers = barriers.filter_map(|since| since.checked_add(self.barrier));
        let graces = self.types.iter().filter_map(TypeStream::removals_since);
        let graces = graces.filter_map(|since| since.checked_add(self.grace));
        let others = self.awaited.deadline().into_iter().chain(self.pace.deadline());
        barriers.chain(graces).chain(others).filter(|&due| due > now).min()
    }

    /// Since when the oldest response has not been answered.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.types.iter().filter_map(TypeStream::in_flight_since).min()
    }

    /// Whether the client has everything that it wants, and said so.
    pub fn is_settled(&self) -> bool {
        self.unanswered_since().is_none() && !self.has_work()
    }

    /// Whether something waits to be sent: for the client's answer, for another type, or for time.
    pub fn has_work(&self) -> bool {
        self.types.iter().any(TypeStream::has_work)
    }

    /// Whether the client is to hear of things again though they do not change: when an answer came, the
    /// next time is known.
    pub(crate) fn has_heartbeats(&self) -> bool {
        self.types.iter().any(TypeStream::has_heartbeats)
    }

    /// Its place in the history of its resource set.
    pub(crate) fn place(&self) -> &Arc<Place> {
        self.reader.place()
    }

    /// Per type: what is going on (R92).
    pub fn types(&self) -> &[TypeStream] {
        &self.types
    }

    fn absorb(&mut self, view: &View<'_>) {
        let since = self.reader.seen();
        if view.revision() != since {
            for of_type in &mut self.types {
                if of_type.absorb(view, since) {
                    self.pace.changed();
                }
            }
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
