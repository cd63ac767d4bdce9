//! The encoding of a response.

use std::time::Duration;

use prost::Message as _;

use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};

use super::super::outgoing::Outgoing;
use super::*;

const T: &str = "type.test/T";

fn response(entries: Vec<Entry>) -> Response {
    Response {
        type_url: T.into(),
        nonce: "7".to_owned(),
        version_info: "v".to_owned(),
        sent: entries.into_iter().map(SentResource).collect(),
        more: false,
        tells_ttl: false,
    }
}

fn resource(index: u8, size: usize) -> Resource {
    Resource::new(format!("r{index}"), "1", vec![index; size].into())
}

fn name(text: &str) -> Box<Arc<str>> {
    Box::new(text.into())
}

fn stamped(_: &Resource, attempt: u32) -> Bytes {
    Bytes::from(vec![b's'; attempt as usize])
}

/// The response in chunks, as the client receives it.
fn written(variant: Variant, response: &Response) -> Vec<u8> {
    let mut rules = TypeRules::new(T, 0);
    rules.restamp = Some(stamped);
    let message = Message::new(variant, response, &[rules]).expect("a message");
    let mut outgoing = Outgoing::default();
    let length = message.framed_len();
    outgoing.push(message);
    let mut bytes = Vec::new();
    while !outgoing.is_empty() {
        let chunk = outgoing.chunk();
        assert!(!chunk.is_empty() && chunk.len() <= 64 << 10);
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes.len(), length);
    let (head, message) = bytes.split_at(HEAD);
    assert_eq!(head[0], 0);
    assert_eq!(head[1..], u32::try_from(message.len()).expect("a length").to_be_bytes());
    message.to_vec()
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<_> =
        (0..200).map(|n| Entry::Upsert(resource(n, 777), u32::from(n % 50 == 9))).collect();
    entries.push(Entry::Upsert(resource(200, 200_000), 0));
    entries.push(Entry::Upsert(resource(201, 0), 3));
    entries
}

#[test]
fn a_delta_response_is_the_message_that_it_should_be() {
    let mut all = entries();
    all.extend([Entry::Absent(name("no")), Entry::Removed(name("gone"))]);
    let bytes = written(Variant::Delta, &response(all));
    let message = DeltaDiscoveryResponse::decode(&*bytes).expect("a response");
    let head = (&*message.type_url, &*message.nonce, &*message.system_version_info);
    assert_eq!(head, (T, "7", "v"));
    assert_eq!(message.removed_resources, ["gone"]);
    let values: Vec<_> = message.resources.iter().map(|r| r.resource.clone()).collect();
    let sizes: Vec<_> = values.iter().flatten().map(|any| any.value.len()).collect();
    assert_eq!((sizes[8], sizes[9], sizes[200], sizes[201]), (777, 1, 200_000, 3));
    assert_eq!((message.resources.len(), message.resources[202].name.as_str()), (203, "no"));
    assert!(values[202].is_none());
}

#[test]
fn a_list_is_the_message_that_it_should_be() {
    let mut all = entries();
    all.push(Entry::Unchanged(resource(202, 5)));
    let bytes = written(Variant::StateOfTheWorld, &response(all));
    let message = DiscoveryResponse::decode(&*bytes).expect("a response");
    let head = (&*message.type_url, &*message.nonce, &*message.version_info);
    assert_eq!(head, (T, "7", "v"));
    let sizes: Vec<_> = message.resources.iter().map(|any| any.value.len()).collect();
    assert_eq!((sizes[8], sizes[9], sizes[200], sizes[201]), (777, 1, 200_000, 3));
    assert_eq!((sizes.len(), sizes[202]), (203, 5));
    assert!(message.resources.iter().all(|any| any.type_url == T));
}

fn with_ttl(tells_ttl: bool) -> Response {
    let kept = |n, attempt| {
        let resource = resource(n, 300).with_aliases(["alias".into()]);
        Entry::Upsert(resource.with_ttl(Duration::from_secs(9)), attempt)
    };
    let entries = vec![kept(0, 0), Entry::Upsert(resource(1, 20), 0), kept(2, 4)];
    Response { tells_ttl, ..response(entries) }
}

#[test]
fn r75_a_ttl_is_told_to_those_who_know_of_it() {
    let message = |tells_ttl| {
        let bytes = written(Variant::Delta, &with_ttl(tells_ttl));
        DeltaDiscoveryResponse::decode(&*bytes).expect("a response")
    };
    let ttls = |tells_ttl| {
        let ttls = message(tells_ttl).resources.into_iter().map(|r| r.ttl.map(|t| t.seconds));
        ttls.collect::<Vec<_>>()
    };
    assert_eq!(ttls(true), [Some(9), None, Some(9)]);
    assert_eq!(ttls(false), [None, None, None]);
    assert_eq!(message(true).resources[2].resource.as_ref().expect("any").value, "ssss");
}

#[test]
fn r75_a_heartbeat_has_name_and_version_and_ttl_and_nothing_else() {
    let kept = resource(1, 300).with_aliases(["alias".into()]);
    let kept = kept.with_ttl(Duration::from_secs(9));
    let beat = Response { tells_ttl: true, ..response(vec![Entry::Heartbeat(kept)]) };
    let bytes = written(Variant::Delta, &beat);
    let message = DeltaDiscoveryResponse::decode(&*bytes).expect("a response");
    let [beat] = &message.resources[..] else { panic!("one heartbeat") };
    let alone = wire::Resource {
        name: "r1".to_owned(),
        version: "1".to_owned(),
        ttl: Some(Duration::from_secs(9).into()),
        ..Default::default()
    };
    assert_eq!(*beat, alone);
}

#[test]
fn r75_in_a_list_what_has_a_ttl_is_wrapped_for_those_who_know_of_it() {
    let list = |tells_ttl| {
        let bytes = written(Variant::StateOfTheWorld, &with_ttl(tells_ttl));
        DiscoveryResponse::decode(&*bytes).expect("a response").resources
    };
    assert!(list(false).iter().all(|any| any.type_url == T));
    let told = list(true);
    let urls: Vec<_> = told.iter().map(|any| any.type_url.as_str()).collect();
    assert_eq!(urls, [wire::Resource::TYPE_URL, T, wire::Resource::TYPE_URL]);
    let unwrapped = |any: &wire::Any| wire::Resource::decode(&*any.value).expect("a resource");
    let (first, last) = (unwrapped(&told[0]), unwrapped(&told[2]));
    assert_eq!((&*first.name, first.ttl), ("r0", Some(Duration::from_secs(9).into())));
    let inside = first.resource.expect("any");
    assert_eq!((&*inside.type_url, inside.value.len()), (T, 300));
    assert_eq!(last.resource.expect("any").value, "ssss");
}

#[test]
fn several_small_messages_share_a_chunk() {
    let mut outgoing = Outgoing::default();
    for _ in 0..3 {
        let response = response(vec![Entry::Upsert(resource(1, 10), 0)]);
        outgoing.push(Message::new(Variant::Delta, &response, &[]).expect("a message"));
    }
    let length = Message::new(Variant::Delta, &response(vec![]), &[]).expect("one").framed_len();
    assert!(outgoing.chunk().len() > 3 * length);
    assert!(outgoing.is_empty());
}
