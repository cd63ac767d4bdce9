//! A type that goes after the first answers of others (R69).

use std::collections::HashMap;
use std::time::Duration;

use imp_xds::wire::DeltaDiscoveryRequest;
use imp_xds::{Batching, Change, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, resource, resource_set};

const FILTER: &str = "type.test/F";

fn none() -> Vec<String> {
    Vec::new()
}

/// Filters after scopes (B) and routes (A). Scopes go two by two.
fn config() -> ServerConfig {
    let batching =
        Batching::UpTo { unproven: 2, unproven_bytes: 1 << 20, proven: 2, proven_bytes: 1 << 20 };
    ServerConfig::new(vec![
        TypeRules {
            legacy_wildcard: false,
            after_first_answers: vec![B.into(), A.into()],
            ..TypeRules::new(FILTER, 1)
        },
        TypeRules { batching, ..TypeRules::new(B, 3) },
        TypeRules { legacy_wildcard: false, ..TypeRules::new(A, 3) },
    ])
}

fn set() -> ResourceSet {
    let names = ["1", "2", "3", "4", "5"].map(|name| (B, name, "1"));
    let set = resource_set(&names);
    put(&set, &[(FILTER, "door", "1")]);
    set
}

/// The same with a scope that requires a table.
fn with_a_table() -> ResourceSet {
    let set = set();
    let mut change = Change::default();
    let required = [(A.into(), "table".into())];
    change.upsert(B, resource("host", "1").with_required(required));
    change.upsert(A, resource("table", "1"));
    set.apply(change);
    set
}

#[test]
fn r69_the_filter_goes_when_the_last_part_is_acknowledged() {
    let set = set();
    let mut peer = Peer::new(&set, &config());
    assert_eq!(peer.subscribe(FILTER, &["door"]), none(), "nothing else is subscribed yet");
    assert_eq!(peer.subscribe(B, &[]), ["B[1@1 2@1 and more]"]);
    put(&set, &[(B, "later", "1")]);
    assert_eq!(peer.ack(B), ["B[3@1 4@1 and more]"]);
    assert_eq!(peer.ack(B), ["B[5@1 later@1]"]);
    assert_eq!(peer.ack(B), ["F[door@1]"]);
    peer.ack(FILTER);
    put(&set, &[(B, "1", "2"), (B, "2", "2"), (B, "3", "2"), (FILTER, "door", "2")]);
    assert_eq!(peer.poll(), ["F[door@2]"], "later changes have their phases");
}

#[test]
fn r69_it_waits_for_routes_that_scopes_require() {
    let set = with_a_table();
    let mut peer = Peer::new(&set, &config());
    peer.subscribe(FILTER, &["door"]);
    peer.subscribe(B, &[]);
    peer.ack(B);
    peer.ack(B);
    assert_eq!(peer.ack(B), none(), "the client has yet to subscribe to the table");
    assert_eq!(peer.subscribe(A, &["table"]), ["A[table@1]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
    assert_eq!(peer.ack(B), ["F[door@1]"]);
}

#[test]
fn r69_a_refused_table_does_not_keep_the_filter_back() {
    let set = with_a_table();
    let mut peer = Peer::new(&set, &config());
    peer.subscribe(FILTER, &["door"]);
    peer.subscribe(A, &["table"]);
    peer.subscribe(B, &[]);
    (0..3).for_each(|_| drop(peer.ack(B)));
    assert_eq!(peer.nack(A, "no"), ["F[door@1]"]);
}

#[test]
fn r69_a_client_that_has_it_gets_it_first() {
    let mut peer = Peer::new(&set(), &config());
    peer.request(DeltaDiscoveryRequest {
        type_url: FILTER.to_owned(),
        resource_names_subscribe: vec!["door".to_owned()],
        initial_resource_versions: HashMap::from([("door".to_owned(), "0".to_owned())]),
        ..Default::default()
    });
    assert_eq!(peer.poll(), ["F[door@1]"]);
}

#[test]
fn r69_a_client_that_does_not_subscribe_to_the_others_waits_for_a_barrier() {
    let mut peer = Peer::new(&set(), &config());
    assert_eq!(peer.subscribe(FILTER, &["door"]), none());
    let due = peer.stream.deadline(peer.now).expect("a deadline");
    assert_eq!(due - peer.now, config().barrier_timeout);
    peer.now = due;
    assert_eq!(peer.poll(), ["F[door@1]"]);

    let nothing = resource_set(&[(FILTER, "door", "1")]);
    let mut peer = Peer::new(&nothing, &config());
    assert_eq!(peer.subscribe(FILTER, &["door"]), ["F[door@1]"], "there is nothing to wait for");
}

#[test]
fn r69_a_client_that_never_answers_gets_it_in_the_end() {
    let mut peer = Peer::new(&set(), &config());
    peer.subscribe(FILTER, &["door"]);
    peer.subscribe(B, &[]);
    assert_eq!(peer.after(Duration::from_secs(59)), none());
    let due = peer.stream.deadline(peer.now).expect("a deadline");
    peer.now = due;
    assert_eq!(peer.poll(), ["F[door@1]"]);
}
