//! The state-of-the-world protocol, on the pure state machine. Responses of A have everything,
//! those of B the changes.

use std::time::Duration;

use imp_xds::stream::Variant::StateOfTheWorld;
use imp_xds::wire::{DiscoveryRequest, Status};
use imp_xds::{Change, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, remove, resource, resource_set};

fn none() -> Vec<String> {
    Vec::new()
}

fn config() -> ServerConfig {
    let (mut a, mut b) = (TypeRules::new(A, 0), TypeRules::new(B, 1));
    a.full_state = true;
    b.legacy_wildcard = false;
    ServerConfig::new(vec![a, b])
}

fn peer(set: &ResourceSet) -> Peer {
    Peer::speaking(StateOfTheWorld, set, &config())
}

#[test]
fn r10_r39_without_names_everything_comes_even_if_it_is_nothing() {
    assert_eq!(peer(&resource_set(&[(A, "a", "1"), (A, "b", "1")])).list(A, &[]), ["A[a@1 b@1]"]);
    assert_eq!(peer(&resource_set(&[])).list(A, &[]), ["A[]"]);
}

#[test]
fn r50_full_responses_hold_what_did_not_change_too() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = peer(&held);
    peer.list(A, &[]);
    assert_eq!(peer.ack(A), none());
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2 (b@1)]"]);
    peer.ack(A);
    remove(&held, A, "a");
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.after(config().removal_grace), ["A[(b@1)]"]);
    peer.ack(A);
    remove(&held, A, "b");
    peer.poll();
    assert_eq!(peer.after(config().removal_grace), ["A[]"], "empty: delete all");
}

#[test]
fn r50_other_types_hold_what_changed_and_never_say_what_is_gone() {
    let held = resource_set(&[(B, "x", "1"), (B, "y", "1")]);
    let mut peer = peer(&held);
    assert_eq!(peer.list(B, &["x", "y", "missing"]), ["B[x@1 y@1]"]);
    peer.ack(B);
    put(&held, &[(B, "y", "2")]);
    assert_eq!(peer.poll(), ["B[y@2]"]);
    peer.ack(B);
    remove(&held, B, "x");
    assert_eq!(peer.after(Duration::from_secs(60)), none());
    put(&held, &[(B, "missing", "1")]);
    assert_eq!(peer.poll(), ["B[missing@1]"]);
}

#[test]
fn r60_what_is_removed_stays_in_full_responses_until_nothing_refers_to_it() {
    let held = resource_set(&[(A, "old", "1"), (B, "route", "1")]);
    let mut peer = peer(&held);
    peer.list(A, &[]);
    peer.ack(A);
    peer.list(B, &["route"]);
    peer.ack(B);
    let mut change = Change::default();
    change.remove(A, "old");
    change.upsert(A, resource("new", "1"));
    change.upsert(B, resource("route", "2"));
    held.apply(change);
    assert_eq!(peer.poll(), ["A[new@1 (old@1)]"]);
    assert_eq!(peer.ack(A), ["B[route@2]"]);
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.after(config().removal_grace), ["A[(new@1)]"]);
}

#[test]
fn r20_a_full_response_holds_the_members_of_a_collection() {
    let (one, other) = ("xdstp://x/t/c/one", "xdstp://x/t/d/other");
    let held = resource_set(&[(A, one, "1"), (A, other, "1"), (A, "plain", "1")]);
    let mut peer = peer(&held);
    assert_eq!(peer.list(A, &["xdstp://x/t/c/*", "plain"]), [format!("A[plain@1 {one}@1]")]);
    peer.ack(A);
    put(&held, &[(A, "plain", "2")]);
    assert_eq!(peer.poll(), [format!("A[plain@2 ({one}@1)]")]);
}

#[test]
fn r51_a_stale_nonce_is_ignored_and_the_next_request_counts() {
    let held = resource_set(&[(B, "x", "1"), (B, "y", "1")]);
    let mut peer = peer(&held);
    peer.list(B, &["x"]);
    let stale = DiscoveryRequest {
        type_url: B.to_owned(),
        resource_names: vec!["x".to_owned(), "y".to_owned()],
        ..Default::default()
    };
    peer.stream.request_list(stale).expect("a good request");
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.list(B, &["x", "y"]), ["B[y@1]"]);
}

#[test]
fn r52_new_names_are_answered_and_old_ones_are_not_repeated() {
    let mut peer = peer(&resource_set(&[(B, "x", "1"), (B, "y", "1")]));
    peer.list(B, &["x"]);
    peer.ack(B);
    assert_eq!(peer.list(B, &["x", "y"]), ["B[y@1]"]);
    peer.ack(B);
    assert_eq!(peer.list(B, &["x", "y"]), none());
}

#[test]
fn r53_an_empty_list_after_names_is_nothing() {
    let held = resource_set(&[(A, "a", "1"), (B, "x", "1")]);
    let mut peer = peer(&held);
    assert_eq!(peer.list(B, &[]), none(), "no legacy wildcard for B");
    assert_eq!(peer.list(A, &["a"]), ["A[a@1]"]);
    peer.ack(A);
    assert_eq!(peer.list(A, &[]), none());
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), none());
}

#[test]
fn r54_a_reconnect_is_answered_whatever_version_it_speaks_of() {
    let held = resource_set(&[(B, "x", "1")]);
    let mut first = peer(&held);
    first.list(B, &["x"]);
    let version_info = first.open[0].version_info.clone();
    let mut again = peer(&held);
    let request = DiscoveryRequest {
        type_url: B.to_owned(),
        resource_names: vec!["x".to_owned()],
        version_info: version_info.clone(),
        ..Default::default()
    };
    again.stream.request_list(request).expect("a good request");
    assert_eq!(again.poll(), ["B[x@1]"]);
    // R40, R55: equal for equal content, on another stream too.
    assert_eq!(again.open[0].version_info, version_info);
}

#[test]
fn r55_the_version_changes_when_what_the_type_holds_does() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1"), (B, "x", "1")]);
    let mut peer = peer(&held);
    peer.list(A, &["a"]);
    let mut versions = vec![peer.open[0].version_info.clone()];
    peer.ack(A);
    peer.list(A, &["a", "b"]);
    assert_eq!(peer.open[0].version_info, versions[0], "another part of the same (R52)");
    peer.ack(A);
    for (name, version) in [("b", "2"), ("c", "1"), ("b", "3")] {
        put(&held, &[(A, name, version), (B, "x", version)]);
        if name == "c" {
            continue; // nobody asked for it
        }
        peer.poll();
        versions.push(peer.open[0].version_info.clone());
        peer.ack(A);
    }
    // The same content with another history.
    let other = resource_set(&[(A, "c", "1"), (A, "z", "1"), (A, "b", "3"), (A, "a", "1")]);
    remove(&other, A, "z");
    let mut another = self::peer(&other);
    another.list(A, &["a", "b"]);
    assert_eq!(another.open[0].version_info, versions[2]);
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 3);
}

#[test]
fn r33_a_client_that_refuses_everything_gets_nothing_twice() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1"), (B, "x", "1")]);
    let mut peer = peer(&held);
    peer.list(A, &[]);
    assert_eq!(peer.nack(A, "no"), none());
    peer.list(B, &["x"]);
    assert_eq!(peer.nack(B, "no"), none());
    assert_eq!(peer.after(Duration::from_secs(3600)), none());
    // R36
    put(&held, &[(A, "a", "2"), (B, "x", "2")]);
    assert_eq!(peer.poll(), ["A[a@2 (b@1)]"]);
    assert_eq!(peer.ack(A), ["B[x@2]"]);
}

#[test]
fn r34_a_refused_batch_of_changes_is_taken_apart() {
    let mut peer = peer(&resource_set(&[(B, "x", "1"), (B, "y", "1")]));
    peer.list(B, &["x", "y"]);
    assert_eq!(peer.nack(B, "y: no"), ["B[x@1]"]);
    assert_eq!(peer.ack(B), ["B[y@1]"]);
    assert_eq!(peer.nack(B, "no"), none());
}

#[test]
fn r62_children_follow_their_changed_parents_only() {
    let held = resource_set(&[(B, "x", "1"), (B, "y", "1")]);
    let parent = |name: &str, version: &str| {
        let mut change = Change::default();
        change.upsert(A, resource(name, version).with_children([(B.into(), name.into())]));
        held.apply(change);
    };
    parent("x", "1");
    parent("y", "1");
    let mut peer = peer(&held);
    peer.list(A, &[]);
    peer.ack(A);
    peer.list(B, &["x", "y"]);
    peer.settle();
    parent("x", "2");
    assert_eq!(peer.poll(), ["A[x@2 (y@1)]"]);
    assert_eq!(peer.ack(A), ["B[x@1]"]);
}

#[test]
fn r30_only_error_detail_makes_a_refusal() {
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = peer(&held);
    peer.list(A, &[]);
    let nonce = peer.open[0].nonce.clone();
    let request = |error_detail| DiscoveryRequest {
        type_url: A.to_owned(),
        version_info: "another".to_owned(),
        response_nonce: nonce.clone(),
        error_detail,
        ..Default::default()
    };
    let outcome = peer.stream.request_list(request(None)).expect("a good request");
    assert_eq!(outcome.answer.expect("an answer").refusal, None);
    let error = Some(Status { code: 13, message: "late".to_owned() });
    let outcome = peer.stream.request_list(request(error)).expect("a good request");
    assert_eq!(outcome.answer, None, "it was answered");
}
