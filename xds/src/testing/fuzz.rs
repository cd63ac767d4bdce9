//! The fuzz targets, which ordinary tests run on the corpus.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::model::{Model, Op};
use crate::stream::{Stream, Variant};
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::{Batching, Change, Resource, ResourceSet, ServerConfig, TypeRules};

/// Longer inputs have no new effects.
const MAX_STEPS: usize = 400;

/// Interprets bytes as an order of events: in the end the client must have what it should.
pub fn interleaving(bytes: &[u8]) {
    let Some((kind, events)) = bytes.split_first() else { return };
    let variant = if kind & 1 == 0 { Variant::Delta } else { Variant::StateOfTheWorld };
    let few = Batching::UpTo { unproven: 2, unproven_bytes: 350, proven: 3, proven_bytes: 250 };
    let batching = match (kind & 2 == 0, kind & 16 == 0) {
        (true, _) => Batching::All,
        (false, true) => Batching::Single,
        (false, false) => few,
    };
    let model = Model::new(variant, batching, kind & 4 == 0);
    let model = if kind & 32 == 0 { model } else { model.requiring() };
    let mut model = if kind & 8 == 0 { model } else { model.split(1) };
    for event in events.chunks_exact(3).take(MAX_STEPS) {
        if let &[what, name, detail] = event {
            model.step(Op::of([what, name, detail]));
        }
    }
    model.settle();
    model.check();
}

/// Interprets bytes as requests with one-byte lengths: errors are allowed, panics and endless
/// responses are not.
pub fn requests(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let variant = if kind & 1 == 0 { Variant::Delta } else { Variant::StateOfTheWorld };
    let mut stream = Stream::speaking(variant, resource_set(), &config());
    let mut now = Instant::now();
    for _ in 0..MAX_STEPS {
        let Some((&length, after)) = rest.split_first() else { break };
        let (message, after) = after.split_at(after.len().min(length.into()));
        rest = after;
        let taken = match variant {
            Variant::Delta => DeltaDiscoveryRequest::decode(message)
                .map(|request| stream.request(request).is_ok()),
            Variant::StateOfTheWorld => DiscoveryRequest::decode(message)
                .map(|request| stream.request_list(request).is_ok()),
        };
        if taken != Ok(true) {
            break; // the server ends the stream
        }
        now += Duration::from_millis(100);
        let sent = stream.poll(now).len();
        assert!(sent <= stream.types().len(), "R80: {sent} responses at once");
        assert!(stream.poll(now).is_empty(), "nothing happened");
    }
}

fn config() -> ServerConfig {
    let mut first = TypeRules::new("a", 0);
    first.full_state = true;
    let mut second = TypeRules::new("b", 1);
    (second.missing_is_empty, second.named_after) = (true, Some("a".into()));
    let mut third = TypeRules::new("c", 1);
    (third.never_remove, third.batching) = (true, Batching::Single);
    ServerConfig::new(vec![first, second, third])
}

fn resource_set() -> ResourceSet {
    let mut change = Change::default();
    for type_url in ["a", "b", "c"] {
        for name in ["x", "x/y", "z"] {
            let resource = Resource::new(name, "1", Bytes::from_static(b"v"));
            let children = [("b".into(), "z".into()), ("c".into(), "x".into())];
            let resource = match type_url {
                "a" => resource.with_children(children),
                "c" if name == "z" => resource.with_required([("b".into(), "z".into())]),
                _ => resource.with_aliases([format!("{name}/alias").into()]),
            };
            change.upsert(type_url, resource);
        }
    }
    let set = ResourceSet::new();
    set.apply(change);
    set
}
