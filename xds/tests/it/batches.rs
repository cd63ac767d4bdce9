//! Responses of a limited number of resources (R94).

use std::time::{Duration, Instant};

use bytes::Bytes;
use imp_xds::{Batching, Change, Resource, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, resource, resource_set};

fn up_to(unproven: usize, proven: usize) -> Batching {
    let (unproven_bytes, proven_bytes) = (1 << 20, 2 << 20);
    Batching::UpTo { unproven, unproven_bytes, proven, proven_bytes }
}

fn config(batching: Batching) -> ServerConfig {
    ServerConfig::new(vec![TypeRules { batching, ..TypeRules::new(A, 0) }])
}

fn names(peer: &Peer) -> Vec<String> {
    let response = peer.open.first().expect("a response");
    response.upserts().map(|(resource, _)| resource.name().to_string()).collect()
}

fn fill(set: &ResourceSet, names: impl Iterator<Item = usize>) {
    let mut change = Change::default();
    names.for_each(|n| change.upsert(A, resource(&format!("n{n}"), "1")));
    set.apply(change);
}

/// A client that has everything.
fn client(set: &ResourceSet, batching: Batching) -> Peer {
    let mut peer = Peer::new(set, &config(batching));
    peer.subscribe(A, &[]);
    peer.settle();
    peer
}

#[test]
fn r94_the_first_change_goes_at_once_and_what_gathers_goes_with_the_ack() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(3, 9));
    put(&set, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
    for name in ["b", "c", "d", "e"] {
        put(&set, &[(A, name, "1")]);
        assert!(peer.poll().is_empty());
    }
    assert_eq!(peer.ack(A), ["A[b@1 c@1 d@1]"]);
    assert_eq!(peer.ack(A), ["A[e@1]"]);
}

#[test]
fn r94_proven_resources_go_apart_and_more_at_once() {
    let set = resource_set(&[]);
    fill(&set, 0..9);
    let proven = |n: usize| set.mark_proven(&A.into(), &format!("n{n}"), "1");
    [1, 2, 4, 5, 7, 8].into_iter().for_each(proven);
    let mut peer = Peer::new(&set, &config(up_to(2, 5)));
    let first = peer.subscribe(A, &[]);
    let mut parts = vec![first.concat()];
    while !peer.open.is_empty() {
        parts.extend(peer.ack(A));
    }
    let expected = [
        "A[n0@1 n3@1 and more]",
        "A[n1@1 n2@1 n4@1 n5@1 n8@1 and more]",
        "A[n6@1 and more]",
        "A[n7@1]",
    ];
    assert_eq!(parts, expected);
    assert!(peer.stream.is_settled());
}

#[test]
fn r94_bytes_are_limited_too_and_one_always_fits() {
    let set = resource_set(&[]);
    let batching =
        Batching::UpTo { unproven: 64, unproven_bytes: 3_000, proven: 64, proven_bytes: 6_000 };
    let mut change = Change::default();
    for n in 0..4 {
        change.upsert(A, Resource::new(format!("n{n}"), "1", Bytes::from(vec![0; 1_200])));
    }
    change.upsert(A, Resource::new("large", "1", Bytes::from(vec![0; 1 << 16])));
    set.apply(change);
    let sizes = |peer: &mut Peer| {
        let mut sizes = Vec::new();
        while !peer.open.is_empty() {
            sizes.push(names(peer).len());
            peer.ack(A);
        }
        sizes
    };
    let mut first = Peer::new(&set, &config(batching));
    first.subscribe(A, &[]);
    assert_eq!(sizes(&mut first), [1, 2, 2], "the last one goes first");
    let mut second = Peer::new(&set, &config(batching));
    second.subscribe(A, &[]);
    assert_eq!(sizes(&mut second), [1, 4], "they are proven now");
}

#[test]
fn r94_what_needs_no_proof_goes_with_the_proven() {
    let mut config = config(up_to(1, 9));
    config.types[0].needs_no_proof = Some(|resource| resource.name().starts_with("safe"));
    let set = resource_set(&[(A, "safe 1", "1"), (A, "x", "1"), (A, "safe 2", "1"), (A, "y", "1")]);
    let mut peer = Peer::new(&set, &config);
    assert_eq!(peer.subscribe(A, &[]), ["A[safe 1@1 safe 2@1 and more]"]);
    assert_eq!(peer.ack(A), ["A[x@1 and more]"]);
    assert_eq!(peer.ack(A), ["A[y@1]"]);
}

#[test]
fn r94_a_lone_change_does_not_wait_for_a_burst() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(64, 1024));
    fill(&set, 0..50_000);
    peer.poll();
    peer.ack(A);
    put(&set, &[(A, "lone", "1")]);
    peer.ack(A);
    assert!(names(&peer).contains(&"lone".to_owned()));
    // The same for one that is a part of the burst.
    put(&set, &[(A, "n40000", "2")]);
    peer.ack(A);
    assert!(names(&peer).contains(&"n40000".to_owned()));
}

#[test]
fn r94_a_lone_change_does_not_wait_for_the_first_answer() {
    let set = resource_set(&[]);
    fill(&set, 0..50_000);
    put(&set, &[(A, "before", "1")]);
    let mut peer = Peer::new(&set, &config(up_to(64, 1024)));
    peer.subscribe(A, &[]);
    assert!(names(&peer).contains(&"before".to_owned()));
    put(&set, &[(A, "meanwhile", "1")]);
    peer.ack(A);
    assert!(names(&peer).contains(&"meanwhile".to_owned()));
    let mut messages = 2;
    while !peer.open.is_empty() {
        messages += 1;
        peer.ack(A);
    }
    assert_eq!((peer.held.len(), peer.stream.is_settled()), (50_002, true));
    assert!(messages <= 50_002 / 64 + 3, "{messages} messages");
}

/// All of them wait for tables that are acknowledged at once.
#[test]
fn r94_what_changed_last_goes_first_when_a_table_is_acknowledged() {
    let batching = up_to(64, 1024);
    let of_type = |type_url| TypeRules { batching, ..TypeRules::new(type_url, 1) };
    let set = resource_set(&[(A, "table", "1"), (A, "other", "1")]);
    let mut change = Change::default();
    let host =
        |name: &str, table: &str| resource(name, "1").with_required([(A.into(), table.into())]);
    (0..5_000).for_each(|n| change.upsert(B, host(&format!("n{n}"), "table")));
    set.apply(change);
    let mut peer = Peer::new(&set, &ServerConfig::new(vec![of_type(B), of_type(A)]));
    peer.subscribe(B, &[]);
    while peer.open.is_empty() {
        peer.now = peer.stream.deadline(peer.now).expect("it looks again");
        peer.poll();
    }
    peer.ack(B);
    let mut change = Change::default();
    change.upsert(B, host("lone", "other"));
    set.apply(change);
    peer.poll();
    peer.subscribe(A, &["table", "other"]);
    peer.ack(A);
    assert!(names(&peer).contains(&"lone".to_owned()));
}

#[test]
fn r94_changes_without_end_do_not_starve_the_oldest() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(64, 1024));
    fill(&set, 0..960);
    peer.poll();
    let mut messages = 1;
    let mut waits = (0..960).map(|n| format!("n{n}")).collect::<std::collections::HashSet<_>>();
    for round in 1_000.. {
        for name in names(&peer) {
            waits.remove(&name);
        }
        if waits.is_empty() {
            break;
        }
        fill(&set, round * 100..round * 100 + 100);
        peer.ack(A);
        messages += 1;
    }
    assert!(messages <= 960 / 48 + 1, "{messages} messages");
}

#[test]
fn r94_one_that_changes_again_and_again_keeps_its_place() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(4, 8));
    fill(&set, 0..40);
    peer.poll();
    for version in 2.. {
        if names(&peer).contains(&"n20".to_owned()) {
            break;
        }
        put(&set, &[(A, "n20", &version.to_string())]);
        fill(&set, version * 1_000..version * 1_000 + 3); // newer
        peer.ack(A);
        assert!(version < 12, "it never comes");
    }
}

#[test]
fn r94_a_message_costs_what_it_has_and_not_what_is_due() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(64, 1024));
    let time = |peer: &mut Peer| {
        let start = Instant::now();
        for _ in 0..50 {
            peer.ack(A);
        }
        start.elapsed() / 50
    };
    fill(&set, 0..4_000);
    peer.poll();
    let few = time(&mut peer);
    peer.settle();
    fill(&set, 100_000..200_000);
    peer.poll();
    let many = time(&mut peer);
    assert!(many < few * 5 + Duration::from_millis(2), "{few:?} of 4,000, {many:?} of 100,000");
}

/// Rejects a response with a bad resource, as Envoy does, without naming it. Returns how many
/// responses there were.
fn search(peer: &mut Peer, bad: &[&str]) -> usize {
    let mut responses = 0;
    while !peer.open.is_empty() {
        responses += 1;
        let is_bad = names(peer).iter().any(|name| bad.contains(&name.as_str()));
        if is_bad {
            peer.nack(A, "missing ]: [")
        } else {
            peer.ack(A)
        };
    }
    responses
}

#[test]
fn r94_a_wrong_one_costs_its_batch_some_messages_and_later_changes_none() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(64, 1024));
    fill(&set, 0..64);
    peer.poll();
    peer.nack(A, "missing ]: [");
    put(&set, &[(A, "later", "1")]);
    let mut came = 0;
    for message in 1.. {
        if names(&peer).contains(&"later".to_owned()) {
            came = message;
            break;
        }
        let is_bad = names(&peer).contains(&"n40".to_owned());
        if is_bad {
            peer.nack(A, "missing ]: [")
        } else {
            peer.ack(A)
        };
    }
    assert!(came <= 2, "it came in message {came}");
    let messages = search(&mut peer, &["n40"]);
    assert!(messages <= 15, "{messages} messages");
    let refused: Vec<_> =
        peer.stream.types()[0].refused().map(|(name, _)| name.to_string()).collect();
    assert_eq!((refused, peer.held.len()), (vec!["n40".to_owned()], 64));
    assert!(peer.stream.is_settled());
}

#[test]
fn r94_three_wrong_ones_are_found_and_all_others_are_restamped() {
    let set = resource_set(&[]);
    let mut peer = client(&set, up_to(64, 1024));
    fill(&set, 0..64);
    peer.poll();
    peer.nack(A, "missing ]: [");
    let attempts: Vec<_> = peer.open.iter().flat_map(|r| r.upserts().map(|(_, n)| n)).collect();
    assert!(attempts.iter().all(|attempt| *attempt == 1), "{attempts:?}");
    let messages = search(&mut peer, &["n3", "n30", "n60"]);
    assert!(messages <= 33, "{messages} messages");
    assert_eq!((peer.stream.types()[0].refused().count(), peer.held.len()), (3, 61));
}
