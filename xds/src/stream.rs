//! One client's stream as a pure state machine: requests and the clock go in, responses come out.
//!
//! [`Stream::request`] takes a message of the client, [`Stream::poll`] says what to send now,
//! [`Stream::deadline`] when to poll again if nothing happens. State is kept per type (R5): what is
//! subscribed, what changed since the last look at the world, and the one response that is not
//! answered yet (R80). The stream reads the world whenever it sends, so it can be slow but never
//! wrong (R81).

mod subscription;
mod type_stream;

use std::time::{Duration, Instant};

use tonic::Status;

use crate::wire::DeltaDiscoveryRequest;
use crate::{Resource, SentResource, ServerConfig, TypeRules, TypeUrl, World};

pub use type_stream::TypeStream;

/// A response to be sent.
#[derive(Debug)]
pub struct Response {
    /// Of which type.
    pub type_url: TypeUrl,
    /// Unique on the stream (R30).
    pub nonce: String,
    /// New or changed, each with the attempt to restamp it with (0: as it is).
    pub upserts: Vec<(Resource, u32)>,
    /// Gone or missing.
    pub removals: Vec<std::sync::Arc<str>>,
}

impl Response {
    /// Names and versions.
    pub fn sent(&self) -> Vec<SentResource> {
        let upserts = self.upserts.iter().map(|(r, _)| SentResource {
            name: r.name().clone(),
            version: Some(r.version().clone()),
        });
        let removals =
            self.removals.iter().map(|name| SentResource { name: name.clone(), version: None });
        upserts.chain(removals).collect()
    }
}

/// How the client answered a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of which type.
    pub type_url: TypeUrl,
    /// What was in the response.
    pub resources: Vec<SentResource>,
    /// None: an ACK. Otherwise the client's words.
    pub refusal: Option<String>,
}

/// What a request said besides its subscriptions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// It answered a response.
    pub answer: Option<Answer>,
    /// What the client holds already in the versions of the world, so that it is not sent (R37).
    pub held: Vec<SentResource>,
}

/// One client's stream.
#[derive(Debug)]
pub struct Stream {
    world: World,
    types: Vec<TypeStream>,
    barrier: Duration,
    grace: Duration,
    next_nonce: u64,
}

/// More types than this on one stream are a mistake or an attack.
const MAX_UNKNOWN_TYPES: usize = 32;

impl Stream {
    /// A client that has not said anything yet.
    pub fn new(world: World, config: &ServerConfig) -> Self {
        let mut rules = config.types.clone();
        rules.sort_by_key(|rule| rule.phase);
        Self {
            world,
            types: rules.into_iter().map(TypeStream::new).collect(),
            barrier: config.barrier_timeout,
            grace: config.removal_grace,
            next_nonce: 1,
        }
    }

    /// Takes a message of the client: subscriptions, and the answer to a response.
    pub fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<Outcome, Status> {
        if request.type_url.is_empty() {
            return Err(Status::invalid_argument("type_url is required on an aggregated stream"));
        }
        let type_url = TypeUrl::from(request.type_url.as_str());
        let world = self.world.clone();
        let of_type = self.of_type(type_url)?;
        let answer = of_type.answer(&request, &world);
        let held = of_type.subscribe(&request, &world);
        Ok(Outcome { answer, held })
    }

    /// Everything that should be sent now.
    pub fn poll(&mut self, now: Instant) -> Vec<Response> {
        for of_type in &mut self.types {
            of_type.absorb(&self.world);
        }
        let mut out = Vec::new();
        self.send_asked(now, &mut out);
        if self.send_upserts(now, &mut out) {
            self.send_removals(now, &mut out);
        }
        out
    }

    /// When to poll again although nothing happened: a barrier or a grace period ends.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.types.iter().any(TypeStream::has_work);
        let barriers = self.types.iter().filter_map(|t| Some(t.in_flight_since()? + self.barrier));
        let graces = self.types.iter().filter_map(|t| Some(t.removal_since()? + self.grace));
        let next = barriers.chain(graces).filter(|&due| due > now).min();
        if waiting { next } else { None }
    }

    /// Per type: what is going on (R92).
    pub fn types(&self) -> &[TypeStream] {
        &self.types
    }

    fn of_type(&mut self, type_url: TypeUrl) -> Result<&mut TypeStream, Status> {
        let known = self.types.iter().position(|t| t.rules().type_url == type_url);
        let index = match known {
            Some(index) => index,
            None if self.types.len() >= MAX_UNKNOWN_TYPES => {
                return Err(Status::resource_exhausted("too many types on one stream"));
            }
            None => {
                self.types.push(TypeStream::new(TypeRules::new(type_url, u8::MAX)));
                self.types.len() - 1
            }
        };
        self.types.get_mut(index).ok_or_else(|| Status::internal("type vanished"))
    }

    /// Named resources that the client asked for wait for no phase (R13, R71).
    fn send_asked(&mut self, now: Instant, out: &mut Vec<Response>) {
        for of_type in &mut self.types {
            let content = of_type.take_asked(&self.world);
            out.extend(content.map(|c| of_type.send(c, nonce(&mut self.next_nonce), now)));
        }
    }

    /// Upserts, phase by phase; false while a phase is not through (R60, R61).
    fn send_upserts(&mut self, now: Instant, out: &mut Vec<Response>) -> bool {
        let barrier = self.barrier;
        for phase in self.types.chunk_by_mut(|a, b| a.rules().phase == b.rules().phase) {
            for of_type in phase.iter_mut() {
                let content = of_type.take_upserts(&self.world);
                out.extend(content.map(|c| of_type.send(c, nonce(&mut self.next_nonce), now)));
            }
            if phase.iter().any(|t| t.holds_up_others(now, barrier)) {
                return false;
            }
        }
        true
    }

    /// Removals, in reverse: first what refers to others, then what is referred to (R60, R64).
    fn send_removals(&mut self, now: Instant, out: &mut Vec<Response>) {
        let lowest = self.types.first().map(|t| t.rules().phase);
        let (grace, barrier) = (self.grace, self.barrier);
        let phases: Vec<_> =
            self.types.chunk_by_mut(|a, b| a.rules().phase == b.rules().phase).collect();
        for phase in phases.into_iter().rev() {
            for of_type in phase.iter_mut() {
                let wait =
                    if Some(of_type.rules().phase) == lowest { grace } else { Duration::ZERO };
                let content = of_type.take_removals(&self.world, now, wait);
                out.extend(content.map(|c| of_type.send(c, nonce(&mut self.next_nonce), now)));
            }
            if phase.iter().any(|t| t.removals_hold_up_others(now, barrier)) {
                return;
            }
        }
    }
}

fn nonce(next: &mut u64) -> String {
    let nonce = next.to_string();
    *next += 1;
    nonce
}
