//! Answers that are too large for one response (R93).

use std::sync::{Arc, Mutex};

use imp_xds::client::{ClientConfig, DeltaClient, Subscriber, Update};
use imp_xds::stream::Variant;
use imp_xds::wire::DeltaDiscoveryRequest;
use imp_xds::{Change, Resource, ResourceSet, ServerConfig, TypeUrl};
use tokio_util::sync::CancellationToken;

use crate::peer::{A, B, Peer, config, put, remove, resource_set};
use crate::support::{Running, until};

/// Space for two of the tests' resources in a response.
fn small() -> ServerConfig {
    let mut config = config();
    for rules in &mut config.types {
        rules.max_response_bytes = 250;
    }
    config
}

fn five() -> ResourceSet {
    resource_set(&[(A, "a", "1"), (A, "b", "1"), (A, "c", "1"), (A, "d", "1"), (A, "e", "1")])
}

#[test]
fn r93_a_large_first_answer_comes_in_parts_and_the_last_one_says_so() {
    let mut peer = Peer::new(&five(), &small());
    assert_eq!(peer.subscribe(A, &[]), ["A[a@1 b@1 and more]"]);
    assert_eq!(peer.poll(), Vec::<String>::new(), "each part waits for the ACK of the one before");
    assert_eq!(peer.ack(A), ["A[c@1 d@1 and more]"]);
    assert_eq!(peer.ack(A), ["A[e@1]"]);
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert!(peer.stream.is_settled());
}

#[test]
fn r93_a_later_phase_waits_for_all_parts_of_the_earlier_one() {
    let held = five();
    put(&held, &[(B, "x", "1")]);
    let mut peer = Peer::new(&held, &small());
    peer.subscribe(A, &[]);
    assert_eq!(peer.subscribe(B, &[]), Vec::<String>::new());
    // Each part takes longer than half of the time that a phase may delay the next one.
    let wait = config().barrier_timeout * 3 / 5;
    assert_eq!(peer.after(wait), Vec::<String>::new());
    assert_eq!(peer.ack(A), ["A[c@1 d@1 and more]"]);
    assert_eq!(peer.after(wait), Vec::<String>::new(), "the client answers, so B waits");
    assert_eq!(peer.ack(A), ["A[e@1]"]);
    assert_eq!(peer.ack(A), ["B[x@1]"]);
}

#[test]
fn r93_what_changes_meanwhile_does_not_put_off_the_end() {
    let held = five();
    let mut peer = Peer::new(&held, &small());
    peer.subscribe(A, &[]);
    let mut parts = Vec::new();
    for version in 2..6 {
        let version = version.to_string();
        put(&held, &[(A, "a", &version), (A, "b", &version)]);
        parts.extend(peer.ack(A));
    }
    assert_eq!(parts[..2], ["A[c@1 d@1 and more]", "A[a@3 e@1]"], "{parts:?}");
    assert_eq!(parts[2..], ["A[a@4 b@4]", "A[a@5 b@5]"]);
}

#[test]
fn r93_the_end_is_told_though_nothing_is_left_to_send() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1"), (A, "c", "1")]);
    let mut peer = Peer::new(&held, &small());
    assert_eq!(peer.subscribe(A, &[]), ["A[a@1 b@1 and more]"]);
    remove(&held, A, "c");
    assert_eq!(peer.ack(A), ["A[]"]);
}

#[test]
fn r93_who_comes_back_between_two_parts_gets_the_rest_and_its_end() {
    let held = five();
    let mut peer = Peer::new(&held, &small());
    peer.subscribe(A, &[]);
    peer.ack(A);
    let versions = peer.held.iter().map(|((_, name), version)| (name.clone(), version.clone()));
    let mut again = Peer::new(&held, &small());
    again.request(DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: versions.collect(),
        ..Default::default()
    });
    assert_eq!(again.poll(), ["A[c@1 d@1 and more]"], "one part was accepted");
    assert_eq!(again.ack(A), ["A[e@1]"]);
}

#[test]
fn r93_removals_are_split_too() {
    let held = resource_set(&[]);
    let names: Vec<String> = (0..30).map(|n| format!("{n:020}")).collect();
    let mut peer = Peer::new(&held, &small());
    let entries: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    peer.subscribe(A, &[]);
    put(&held, &entries);
    peer.settle();
    for name in &names {
        remove(&held, A, name);
    }
    peer.poll();
    let mut parts = peer.after(small().removal_grace);
    while parts.last().is_some_and(|_| parts.len() < 10) {
        let next = peer.ack(A);
        if next.is_empty() {
            break;
        }
        parts.extend(next);
    }
    assert_eq!(parts.len(), 3, "{parts:?}");
    assert!(peer.held.is_empty() && peer.stream.is_settled());
}

#[test]
fn r93_over_the_state_of_the_world_only_full_responses_are_not_split() {
    let mut config = small();
    for rules in &mut config.types {
        rules.full_state = rules.type_url.as_str() == A;
    }
    let held = five();
    put(&held, &[(B, "x", "1"), (B, "y", "1"), (B, "z", "1")]);
    let mut peer = Peer::speaking(Variant::StateOfTheWorld, &held, &config);
    assert_eq!(peer.list(A, &[]), ["A[a@1 b@1 c@1 d@1 e@1]"]);
    peer.ack(A);
    assert_eq!(peer.list(B, &["x", "y", "z"]), ["B[x@1 y@1]"]);
    assert_eq!(peer.ack(B), ["B[z@1]"]);
}

/// What a client was sent, part by part.
#[derive(Default)]
struct Parts(Mutex<Vec<(usize, bool)>>);

impl Subscriber for Parts {
    fn held(&self, _: &TypeUrl) -> Vec<(String, String)> {
        Vec::new()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        self.0.lock().expect("parts").push((update.upserts.len(), update.more));
        Vec::new()
    }
}

#[tokio::test]
async fn r93_a_resource_set_larger_than_the_clients_limit_arrives() {
    const EACH: usize = 20_000;
    let held = ResourceSet::new();
    let mut change = Change::default();
    for n in 0..100 {
        change.upsert(A, Resource::new(format!("r{n}"), "1", vec![0_u8; EACH].into()));
    }
    held.apply(change);
    let mut server = config();
    for rules in &mut server.types {
        rules.max_response_bytes = 8 * EACH;
    }
    let running = Running::start(held, server).await;
    let mut config = ClientConfig::new("node", vec![A.into()]);
    config.max_response_bytes = 10 * EACH;
    let parts = Arc::new(Parts::default());
    let client = DeltaClient::new(config, parts.clone());
    let (cancel, channel) = (CancellationToken::new(), running.channel().await);
    let stop = cancel.clone().drop_guard();
    tokio::spawn(async move {
        let connect = || {
            let channel = channel.clone();
            async move { Ok((channel, tonic::metadata::MetadataMap::new())) }
        };
        client.run(connect, cancel).await;
    });
    let ended = || parts.0.lock().expect("parts").last().is_some_and(|(_, more)| !more);
    until("all parts came", ended).await;
    drop(stop);
    let parts = parts.0.lock().expect("parts").clone();
    assert_eq!(parts.iter().map(|(resources, _)| resources).sum::<usize>(), 100);
    assert!(parts.len() > 10, "{parts:?}");
    assert_eq!(parts.iter().filter(|(_, more)| !more).count(), 1, "one end: {parts:?}");
}
