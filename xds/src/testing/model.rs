//! A client and a server with messages in flight between them, for every order of events: in the
//! end the client has exactly the last snapshot of its subscriptions, except versions that it
//! rejected (R81).

#![expect(clippy::expect_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod known;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::stream::{Response, Stream, Variant};
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest, Status};
use crate::{Batching, Change, Debounce, Resource, ResourceSet, ServerConfig, TypeRules};
use known::Known;

const TYPES: [&str; 2] = ["type.test/A", "type.test/B"];

/// An event. The first number is one of two types, the second one of five names.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A resource gets one of eight versions, of which clients reject the last.
    Set(usize, u8, u8),
    /// A resource is removed.
    Remove(usize, u8),
    /// A missing resource exists from now on, without content.
    Retain(usize, u8),
    /// The client subscribes to a name.
    Subscribe(usize, u8),
    /// The client subscribes to everything.
    SubscribeAll(usize),
    /// The client unsubscribes from a name.
    Unsubscribe(usize, u8),
    /// The client unsubscribes from everything.
    UnsubscribeAll(usize),
    /// The server reads one request.
    Request,
    /// The client reads one response.
    Response,
    /// The client loses its stream and opens another.
    Reconnect,
    /// Milliseconds pass.
    Wait(u16),
}

impl Op {
    /// Any three bytes are an event.
    pub fn of([what, name, detail]: [u8; 3]) -> Self {
        let (t, n) = (usize::from(what >> 7), name % 5);
        match what % 25 {
            0..4 => Self::Set(t, n, detail % 8),
            4..6 => Self::Remove(t, n),
            6..8 => Self::Subscribe(t, n),
            8 => Self::SubscribeAll(t),
            9..11 => Self::Unsubscribe(t, n),
            11 => Self::UnsubscribeAll(t),
            12..17 => Self::Request,
            17..22 => Self::Response,
            22 => Self::Reconnect,
            23 => Self::Retain(t, n),
            _ => Self::Wait(u16::from(detail) * 12),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Wants {
    all: bool,
    names: BTreeSet<String>,
    started: bool,
}

impl Wants {
    fn want(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

#[derive(Clone, Debug)]
enum Request {
    Delta(DeltaDiscoveryRequest),
    List(DiscoveryRequest),
}

/// A client, a server and a resource set: two types, one rejected version in eight, messages in
/// flight in both directions.
#[derive(Debug)]
pub struct Model {
    set: ResourceSet,
    config: ServerConfig,
    stream: Stream,
    now: Instant,
    up: VecDeque<Request>,
    down: VecDeque<Response>,
    wants: [Wants; 2],
    held: [BTreeMap<String, String>; 2],
    variant: Variant,
    /// The last nonce of each type that a state-of-the-world client saw.
    nonces: [String; 2],
    refused_alone: BTreeSet<(usize, String, String)>,
    /// Whether the last response of each type said that more follows.
    awaits_more: [bool; 2],
    /// Whether it rejects a response as a whole, or applies its good part, as Envoy does.
    whole: bool,
    /// Whether resources of the second type require those of the first with their names.
    requires: bool,
    known: Known,
}

impl Model {
    /// An idle model without resources. A `whole` client applies nothing of a response that it
    /// rejects; the other kind applies the good part, as Envoy does.
    pub fn new(variant: Variant, batching: Batching, whole: bool) -> Self {
        let rules = TYPES.iter().enumerate().map(|(phase, type_url)| {
            let mut rules = TypeRules::new(*type_url, u8::from(phase > 0));
            rules.batching = batching;
            rules.needs_no_proof = Some(|resource| &**resource.name() == "n4");
            rules.full_state = phase == 0;
            rules
        });
        let config = ServerConfig::new(rules.collect());
        let set = ResourceSet::new();
        set.mark_ready();
        Self {
            stream: Stream::speaking(variant, set.clone(), &config),
            set,
            config,
            now: Instant::now(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            wants: Default::default(),
            held: Default::default(),
            variant,
            nonces: Default::default(),
            refused_alone: BTreeSet::new(),
            awaits_more: [false; 2],
            whole,
            requires: false,
            known: Known::default(),
        }
    }

    /// The same with resources of the second type that require those of the first (R68).
    #[must_use]
    pub fn requiring(mut self) -> Self {
        self.requires = true;
        self
    }

    /// The same with a server that delays changes (R84).
    #[must_use]
    pub fn debounced(mut self) -> Self {
        let (quiet, max) = (Duration::from_millis(200), Duration::from_secs(1));
        self.config.debounce = Some(Debounce { quiet, max });
        self.stream = Stream::speaking(self.variant, self.set.clone(), &self.config);
        self
    }

    /// The same with a server that sends one resource per response, or this many bytes (R93).
    #[must_use]
    pub fn split(mut self, max_response_bytes: usize) -> Self {
        for rules in &mut self.config.types {
            rules.max_response_bytes = max_response_bytes;
        }
        self.stream = Stream::speaking(self.variant, self.set.clone(), &self.config);
        self
    }

    /// Performs an event.
    pub fn step(&mut self, op: Op) {
        match op {
            Op::Set(t, n, v) => self.set(t, &format!("n{n}"), &format!("v{v}")),
            Op::Remove(t, n) => {
                let mut change = Change::default();
                change.remove(TYPES[t], format!("n{n}"));
                self.set.apply(change);
            }
            Op::Retain(t, n) => {
                let mut change = Change::default();
                change.retain(TYPES[t], format!("n{n}"));
                self.set.apply(change);
            }
            Op::Subscribe(t, n) => self.subscribe(t, format!("n{n}")),
            Op::SubscribeAll(t) => self.subscribe(t, "*".to_owned()),
            Op::Unsubscribe(t, n) => self.unsubscribe(t, &format!("n{n}")),
            Op::UnsubscribeAll(t) => self.unsubscribe(t, "*"),
            Op::Request => self.request(),
            Op::Response => self.response(),
            Op::Reconnect => self.reconnect(),
            Op::Wait(ms) => self.now += Duration::from_millis(ms.into()),
        }
        self.poll();
    }

    fn set(&mut self, t: usize, name: &str, version: &str) {
        let mut change = Change::default();
        let mut resource = Resource::new(name, version, Bytes::new());
        if t == 0 {
            resource = resource.with_children([(TYPES[1].into(), name.into())]);
        } else if self.requires {
            resource = resource.with_required([(TYPES[0].into(), name.into())]);
        }
        change.upsert(TYPES[t], resource);
        self.set.apply(change);
    }

    fn subscribe(&mut self, t: usize, name: String) {
        let wants = &mut self.wants[t];
        wants.started = true;
        if name == "*" {
            wants.all = true;
        } else {
            wants.names.insert(name.clone());
        }
        if self.variant == Variant::StateOfTheWorld {
            return self.send_list(t, None);
        }
        self.up.push_back(Request::Delta(DeltaDiscoveryRequest {
            type_url: TYPES[t].to_owned(),
            resource_names_subscribe: vec![name],
            ..Default::default()
        }));
    }

    fn unsubscribe(&mut self, t: usize, name: &str) {
        let wants = &mut self.wants[t];
        if !wants.started {
            return; // as a first request it would mean everything
        }
        if name == "*" {
            wants.all = false;
        } else {
            wants.names.remove(name);
        }
        if self.variant == Variant::StateOfTheWorld {
            return self.send_list(t, None);
        }
        let wants = wants.clone();
        self.held[t].retain(|name, _| wants.want(name));
        self.up.push_back(Request::Delta(DeltaDiscoveryRequest {
            type_url: TYPES[t].to_owned(),
            resource_names_unsubscribe: vec![name.to_owned()],
            ..Default::default()
        }));
    }

    fn request(&mut self) {
        let Some(request) = self.up.pop_front() else { return };
        let (type_url, named) = match &request {
            Request::Delta(delta) => {
                let lists = [&delta.resource_names_subscribe, &delta.resource_names_unsubscribe];
                (&delta.type_url, lists.into_iter().flatten().cloned().collect())
            }
            Request::List(list) => (&list.type_url, Vec::new()),
        };
        let t = index(type_url);
        let outcome = match request.clone() {
            Request::Delta(delta) => self.stream.request(delta),
            Request::List(list) => self.stream.request_list(list),
        };
        let outcome = outcome.expect("a good request");
        if outcome.type_url.is_some() {
            self.known.read(t, &request, outcome.answer.as_ref(), &self.set);
        }
        let answer = outcome.answer;
        let refused = answer.filter(|answer| answer.refusal.is_some());
        let refused = refused.into_iter().flat_map(|answer| {
            let upserts = answer
                .resources
                .iter()
                .filter_map(|r| Some((r.name().clone(), r.version()?.clone())));
            let upserts: Vec<_> = upserts.collect();
            (upserts.len() == 1).then_some(upserts)
        });
        for (name, version) in refused.flatten() {
            self.refused_alone.insert((t, name.to_string(), version.to_string()));
        }
        // A subscription that names it, or everything, is a new request.
        self.refused_alone.retain(|(of, name, _)| {
            *of != t || !named.iter().any(|named| named == name || named == "*")
        });
    }

    fn response(&mut self) {
        let Some(response) = self.down.pop_front() else { return };
        let t = index(response.type_url.as_str());
        self.awaits_more[t] = response.more;
        let bad = |r: &Resource| &**r.version() == "v7";
        let refused = response.upserts().map(|(r, _)| r).chain(response.unchanged()).any(bad);
        if self.variant == Variant::StateOfTheWorld {
            self.nonces[t].clone_from(&response.nonce);
        }
        let full = self.variant == Variant::StateOfTheWorld && t == 0;
        if full {
            let names: BTreeSet<_> = response.sent.iter().map(|r| r.name().clone()).collect();
            self.held[t].retain(|name, _| names.contains(&**name));
        }
        if full || !(refused && self.whole) {
            let all = response.upserts().map(|(r, _)| r).chain(response.unchanged());
            for r in all.filter(|r| !bad(r)) {
                if self.wants[t].want(r.name()) || self.variant == Variant::StateOfTheWorld {
                    self.held[t].insert(r.name().to_string(), r.version().to_string());
                }
            }
            for name in response.removals() {
                self.held[t].remove(&**name);
            }
        }
        let error = Status { code: 13, message: "v7 is bad".to_owned() };
        let error_detail = refused.then_some(error);
        if self.variant == Variant::StateOfTheWorld {
            return self.send_list(t, error_detail);
        }
        self.up.push_back(Request::Delta(DeltaDiscoveryRequest {
            type_url: TYPES[t].to_owned(),
            response_nonce: response.nonce,
            error_detail,
            ..Default::default()
        }));
    }

    fn send_list(&mut self, t: usize, error_detail: Option<Status>) {
        let wants = &self.wants[t];
        let star = wants.all.then(|| "*".to_owned());
        self.up.push_back(Request::List(DiscoveryRequest {
            type_url: TYPES[t].to_owned(),
            resource_names: star.into_iter().chain(wants.names.clone()).collect(),
            response_nonce: self.nonces[t].clone(),
            error_detail,
            ..Default::default()
        }));
    }

    fn reconnect(&mut self) {
        self.stream = Stream::speaking(self.variant, self.set.clone(), &self.config);
        self.nonces = Default::default();
        self.up.clear();
        self.down.clear();
        self.refused_alone.clear();
        self.awaits_more = [false; 2];
        self.known = Known::default();
        for (t, type_url) in TYPES.iter().enumerate() {
            let wants = &mut self.wants[t];
            wants.started = wants.all || !wants.names.is_empty();
            if !wants.started {
                continue;
            }
            if self.variant == Variant::StateOfTheWorld {
                self.send_list(t, None);
                continue;
            }
            let star = wants.all.then(|| "*".to_owned());
            self.up.push_back(Request::Delta(DeltaDiscoveryRequest {
                type_url: (*type_url).to_owned(),
                resource_names_subscribe: star.into_iter().chain(wants.names.clone()).collect(),
                initial_resource_versions: self.held[t].clone().into_iter().collect(),
                ..Default::default()
            }));
        }
    }

    fn poll(&mut self) {
        for response in self.stream.poll(self.now) {
            let t = index(response.type_url.as_str());
            let mut names: Vec<_> = response.sent.iter().map(|r| r.name().clone()).collect();
            names.sort();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "R19");
            for (r, _) in response.upserts() {
                let key = (t, r.name().to_string(), r.version().to_string());
                // A client that requests it again, or gets everything at once, may get it again.
                let exempt = self.variant == Variant::StateOfTheWorld;
                assert!(exempt || !self.refused_alone.contains(&key), "R33: {key:?} again");
                assert!(!self.is_kept_back(t, r), "R68: the client lacks what {key:?} requires");
            }
            for name in response.removals() {
                let retained = self.set.retained(&response.type_url);
                assert!(!retained.contains(name), "{name} exists");
                self.refused_alone.retain(|(of, refused, _)| (*of, &**refused) != (t, &**name));
            }
            let same = self.down.iter().filter(|d| d.type_url == response.type_url);
            assert_eq!(same.count(), 0, "R80");
            self.down.push_back(response);
        }
    }

    /// Delivers everything in flight.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            self.poll();
            if !self.up.is_empty() {
                self.request();
            } else if !self.down.is_empty() {
                self.response();
            } else if let Some(due) = self.stream.deadline(self.now) {
                self.now = due;
            } else {
                return;
            }
        }
        panic!("never at rest: {:?}", self.stream);
    }

    /// Checks that the client has what it should.
    pub fn check(&self) {
        assert!(self.stream.is_idle(), "{:?}", self.stream);
        let mut kept_back = 0;
        for (t, type_url) in TYPES.iter().enumerate() {
            // A client that unsubscribed from the wildcard is owed nothing.
            assert!(!self.awaits_more[t] || !self.wants[t].all, "R93: {type_url} has no end");
            let type_url = (*type_url).into();
            let retained = self.set.retained(&type_url);
            for n in 0..5 {
                let name = format!("n{n}");
                let wanted = self.wants[t].want(&name);
                let current = self.set.get(&type_url, &name).filter(|_| wanted);
                let held = self.held[t].get(&name).map(String::as_str);
                let lacks = |r: &Resource| held != Some(&**r.version());
                match current.as_ref().map(|r| &**r.version()) {
                    Some("v7") => assert_ne!(held, Some("v7")),
                    // The protocol cannot express it.
                    None if self.variant == Variant::StateOfTheWorld && (t == 1 || !wanted) => {}
                    // It has a former version, or none.
                    Some(_) if current.as_ref().is_some_and(|r| self.is_kept_back(t, r)) => {
                        kept_back += usize::from(current.as_ref().is_some_and(lacks));
                    }
                    // Any version that the client had is right.
                    None if retained.contains(&name.as_str().into()) => {}
                    current => assert_eq!(held, current, "{name} of {t}"),
                }
            }
        }
        assert!(kept_back == 0 || !self.stream.is_settled(), "R68: {:?}", self.stream);
    }

    /// Whether the client lacks something that the resource requires, as far as the server can
    /// know.
    fn is_kept_back(&self, t: usize, resource: &Resource) -> bool {
        let lacks = |(type_url, name): &(crate::TypeUrl, std::sync::Arc<str>)| {
            let current = self.set.get(type_url, name);
            current.is_some_and(|current| {
                self.known.has[0].get(&**name).map(String::as_str) != Some(&**current.version())
            })
        };
        t == 1 && resource.required().iter().any(lacks)
    }
}

fn index(type_url: &str) -> usize {
    TYPES.iter().position(|known| *known == type_url).expect("a known type")
}
