//! A client of the pure state machine: follows the protocol to the letter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use imp_xds::stream::{Outcome, Response, Stream, Variant};
use imp_xds::wire::{DeltaDiscoveryRequest, DiscoveryRequest, Status};
use imp_xds::{Change, Resource, ResourceSet, ServerConfig, TypeRules};

pub(crate) const A: &str = "type.test/A";
pub(crate) const B: &str = "type.test/B";

pub(crate) fn resource(name: &str, version: &str) -> Resource {
    Resource::new(name, version, Bytes::from(format!("{name} {version}")))
}

pub(crate) fn resource_set(names: &[(&str, &str, &str)]) -> ResourceSet {
    let set = ResourceSet::new();
    put(&set, names);
    set
}

pub(crate) fn put(set: &ResourceSet, names: &[(&str, &str, &str)]) {
    let mut change = Change::default();
    for (type_url, name, version) in names {
        change.upsert(*type_url, resource(name, version));
    }
    set.apply(change);
}

pub(crate) fn remove(set: &ResourceSet, type_url: &str, name: &str) {
    let mut change = Change::default();
    change.remove(type_url, name);
    set.apply(change);
}

/// A in phase 0, B in phase 1.
pub(crate) fn config() -> ServerConfig {
    ServerConfig::new(vec![TypeRules::new(B, 1), TypeRules::new(A, 0)])
}

/// A response as text, easy to compare.
pub(crate) fn text(response: &Response) -> String {
    let upserts = response.upserts().map(|(r, _)| format!("{}@{}", r.name(), r.version()));
    let removals = response.removals().map(|name| format!("-{name}"));
    let absent = response.absent().map(|name| format!("{name}@nothing"));
    let heartbeats = response.heartbeats().map(|r| format!("~{}@{}", r.name(), r.version()));
    let mut parts: Vec<_> = upserts.chain(absent).chain(removals).chain(heartbeats).collect();
    parts.sort();
    let letter = response.type_url.as_str().rsplit('/').next().unwrap_or_default();
    let more = response.unchanged().map(|r| format!("({}@{})", r.name(), r.version()));
    parts.extend(more);
    parts.extend(response.more.then(|| "and more".to_owned()));
    format!("{letter}[{}]", parts.join(" "))
}

pub(crate) struct Peer {
    pub(crate) stream: Stream,
    pub(crate) now: Instant,
    /// Unanswered responses.
    pub(crate) open: Vec<Response>,
    pub(crate) held: BTreeMap<(String, String), String>,
    /// For a state-of-the-world client: its subscriptions of each type, and the last nonce it saw.
    lists: HashMap<String, (Vec<String>, String)>,
    variant: Variant,
}

impl Peer {
    pub(crate) fn new(set: &ResourceSet, config: &ServerConfig) -> Self {
        Self::speaking(Variant::Delta, set, config)
    }

    pub(crate) fn speaking(variant: Variant, set: &ResourceSet, config: &ServerConfig) -> Self {
        Self {
            stream: Stream::speaking(variant, set.clone(), config),
            now: Instant::now(),
            open: Vec::new(),
            held: BTreeMap::new(),
            lists: HashMap::new(),
            variant,
        }
    }

    /// A client of the service of one type.
    pub(crate) fn of_type(set: &ResourceSet, config: &ServerConfig, type_url: &str) -> Self {
        let mut peer = Self::new(set, config);
        peer.stream = peer.stream.serving_only(Some(type_url));
        peer
    }

    /// A client with these features.
    pub(crate) fn listing(mut self, features: &[&str]) -> Self {
        let features: Vec<_> = features.iter().map(ToString::to_string).collect();
        self.stream = self.stream.with_features(&features);
        self
    }

    /// Subscribes to exactly these, as a state-of-the-world client does.
    pub(crate) fn list(&mut self, type_url: &str, names: &[&str]) -> Vec<String> {
        let entry = self.lists.entry(type_url.to_owned()).or_default();
        entry.0 = names.iter().map(ToString::to_string).collect();
        self.send_list(type_url, None);
        self.poll()
    }

    fn send_list(&mut self, type_url: &str, error_detail: Option<Status>) -> Outcome {
        let (resource_names, response_nonce) = self.lists[type_url].clone();
        let request = DiscoveryRequest {
            resource_names,
            response_nonce,
            error_detail,
            type_url: type_url.to_owned(),
            ..Default::default()
        };
        self.stream.request_list(request).expect("a request that is served")
    }

    pub(crate) fn request(&mut self, request: DeltaDiscoveryRequest) -> Outcome {
        self.stream.request(request).expect("a request that is served")
    }

    pub(crate) fn subscribe(&mut self, type_url: &str, names: &[&str]) -> Vec<String> {
        self.change(type_url, names, &[])
    }

    pub(crate) fn change(&mut self, type_url: &str, plus: &[&str], minus: &[&str]) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        self.request(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: owned(plus),
            resource_names_unsubscribe: owned(minus),
            ..Default::default()
        });
        self.poll()
    }

    /// The responses to send now, as text.
    pub(crate) fn poll(&mut self) -> Vec<String> {
        let responses = self.stream.poll(self.now);
        for response in &responses {
            let names = response.upserts().map(|(r, _)| r.name()).chain(response.removals());
            let mut seen = HashSet::new();
            assert!(names.into_iter().all(|name| seen.insert(name)), "R19: a name came twice");
            let open = self.open.iter().find(|open| open.type_url == response.type_url);
            assert!(open.is_none(), "R80: two unanswered responses of one type");
        }
        let words = responses.iter().map(text).collect();
        self.open.extend(responses);
        words
    }

    pub(crate) fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.poll()
    }

    fn answer(&mut self, type_url: &str, error_detail: Option<Status>) -> Vec<String> {
        let index = self.open.iter().position(|open| open.type_url.as_str() == type_url);
        let response = self.open.remove(index.expect("a response to answer"));
        if error_detail.is_none() {
            for (resource, _) in response.upserts() {
                let key = (type_url.to_owned(), resource.name().to_string());
                self.held.insert(key, resource.version().to_string());
            }
            for name in response.removals() {
                self.held.remove(&(type_url.to_owned(), name.to_string()));
            }
        }
        let outcome = match self.variant {
            Variant::Delta => self.request(DeltaDiscoveryRequest {
                type_url: type_url.to_owned(),
                response_nonce: response.nonce,
                error_detail,
                ..Default::default()
            }),
            Variant::StateOfTheWorld => {
                self.lists.entry(type_url.to_owned()).or_default().1 = response.nonce;
                self.send_list(type_url, error_detail)
            }
        };
        assert!(outcome.answer.is_some(), "an answer is understood as one");
        self.poll()
    }

    pub(crate) fn ack(&mut self, type_url: &str) -> Vec<String> {
        self.answer(type_url, None)
    }

    pub(crate) fn nack(&mut self, type_url: &str, words: &str) -> Vec<String> {
        self.answer(type_url, Some(Status { code: 13, message: words.to_owned() }))
    }

    /// Acknowledges everything until there are no more responses.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.poll();
            match self.open.first().map(|open| open.type_url.to_string()) {
                Some(type_url) => {
                    self.ack(&type_url);
                }
                None => match self.stream.deadline(self.now) {
                    Some(due) => self.now = due,
                    None => return,
                },
            }
        }
        panic!("responses without end");
    }
}
