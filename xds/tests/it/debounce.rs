//! R84, on the pure state machine: with a debounce, a burst of changes is sent together.

use std::time::Duration;

use imp_xds::stream::Variant;
use imp_xds::{Change, Debounce, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, config, put, remove, resource, resource_set};

const MS: Duration = Duration::from_millis(1);
const QUIET: Duration = Duration::from_millis(20);
const MAX: Duration = Duration::from_millis(500);

fn none() -> Vec<String> {
    Vec::new()
}

fn debounced() -> ServerConfig {
    ServerConfig { debounce: Some(Debounce { quiet: QUIET, max: MAX }), ..config() }
}

/// A client in sync after a long quiet time.
fn both(set: &ResourceSet) -> Peer {
    let mut peer = Peer::new(set, &debounced());
    peer.subscribe(A, &[]);
    peer.subscribe(B, &[]);
    peer.settle();
    peer
}

/// How long the body's timer would sleep.
fn sleep(peer: &Peer) -> Option<Duration> {
    peer.stream.deadline(peer.now).map(|due| due - peer.now)
}

#[test]
fn r84_the_first_change_goes_out_at_once_and_those_behind_it_together() {
    let held = resource_set(&[]);
    let mut peer = both(&held);
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
    assert_eq!(peer.ack(A), none());
    let waits_from = peer.now + (QUIET - MS);
    for name in ["b", "c"] {
        put(&held, &[(A, name, "1")]);
        assert_eq!(peer.after(QUIET - MS), none());
        assert_eq!(peer.stream.types()[0].pending_since(), Some(waits_from), "R92");
    }
    assert_eq!(sleep(&peer), Some(QUIET), "since c");
    assert_eq!(peer.after(QUIET - MS), none());
    assert_eq!(peer.after(MS), ["A[b@1 c@1]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(sleep(&peer), None);
}

#[test]
fn r84_after_a_quiet_time_the_next_change_is_a_first_one_again() {
    let held = resource_set(&[]);
    let mut peer = both(&held);
    for version in ["1", "2", "3"] {
        put(&held, &[(A, "a", version)]);
        assert_eq!(peer.after(QUIET), [format!("A[a@{version}]")]);
        peer.ack(A);
    }
}

#[test]
fn r84_changes_that_never_rest_go_out_from_time_to_time() {
    let held = resource_set(&[]);
    let mut peer = both(&held);
    let mut sent = 0;
    for version in 0..2_000 {
        put(&held, &[(A, "a", &version.to_string())]);
        sent += peer.after(MS).len();
        if !peer.open.is_empty() {
            peer.ack(A);
        }
    }
    // The first, and one after each longest delay, which begins with the following change.
    assert_eq!(sent, 1 + 3);
}

#[test]
fn r84_without_a_debounce_the_client_sets_the_pace() {
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    peer.ack(A);
    for version in ["1", "2", "3"] {
        put(&held, &[(A, "a", version)]);
        assert_eq!(peer.poll(), [format!("A[a@{version}]")]);
        peer.ack(A);
    }
}

#[test]
fn r84_what_is_asked_for_by_name_does_not_wait() {
    let held = resource_set(&[]);
    let mut peer = both(&held);
    put(&held, &[(A, "a", "1")]);
    peer.poll();
    peer.ack(A);
    put(&held, &[(A, "b", "1"), (B, "b", "1")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.subscribe(B, &["b", "missing"]), ["B[-missing b@1]"]);
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.after(QUIET), ["A[b@1]"]);
}

#[test]
fn r84_a_first_answer_does_not_wait_nor_does_what_goes_before_it() {
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &debounced());
    peer.subscribe(A, &[]);
    peer.ack(A);
    put(&held, &[(A, "a", "1")]);
    peer.poll();
    peer.ack(A);
    put(&held, &[(A, "a", "2"), (B, "refers to it", "1")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.subscribe(B, &[]), ["A[a@2]"]);
    assert_eq!(peer.ack(A), ["B[refers to it@1]"]);
}

#[test]
fn r84_children_of_what_was_asked_for_do_not_wait() {
    let held = resource_set(&[(B, "endpoints", "1")]);
    let mut change = Change::default();
    let child = (B.into(), "endpoints".into());
    change.upsert(A, resource("cluster", "1").with_children([child]));
    held.apply(change);
    let mut peer = both(&held);
    put(&held, &[(B, "other", "1")]);
    assert_eq!(peer.poll(), ["B[other@1]"]);
    peer.ack(B);
    put(&held, &[(B, "other", "2")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.subscribe(A, &["cluster"]), ["A[cluster@1]"]);
    assert_eq!(peer.ack(A), ["B[endpoints@1 other@2]"]);
}

#[test]
fn r84_r61_phases_that_were_begun_come_to_their_end() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(A, "a", "2"), (B, "b", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"]);
    put(&held, &[(B, "b", "3")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.ack(A), ["B[b@3]"], "a client that has half of a change does not wait");
    put(&held, &[(A, "a", "3"), (B, "b", "4")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.after(QUIET), ["A[a@3]"]);
    assert_eq!(peer.ack(A), ["B[b@4]"]);
}

#[test]
fn r84_r60_r64_removals_wait_with_what_they_come_with() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(A, "first", "1")]);
    peer.poll();
    peer.ack(A);
    remove(&held, A, "a");
    put(&held, &[(B, "b", "without a")]);
    assert_eq!(peer.after(QUIET - MS), none());
    assert_eq!(peer.after(QUIET), ["B[b@without a]"]);
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.after(config().removal_grace), ["A[-a]"]);
}

#[test]
fn r84_a_change_that_the_client_does_not_want_begins_nothing() {
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &debounced());
    peer.subscribe(A, &["a"]);
    peer.ack(A);
    put(&held, &[(A, "other", "1"), (B, "b", "1")]);
    assert_eq!(peer.after(MS), none());
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
}

#[test]
fn r84_full_lists_wait_too() {
    let mut full = TypeRules::new(A, 0);
    full.full_state = true;
    let config = ServerConfig { types: vec![full], ..debounced() };
    let held = resource_set(&[]);
    let mut peer = Peer::speaking(Variant::StateOfTheWorld, &held, &config);
    peer.list(A, &[]);
    peer.ack(A);
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
    peer.ack(A);
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.after(QUIET), ["A[a@2]"]);
}

#[test]
fn r84_a_wait_without_end_is_none() {
    let endless = Debounce { quiet: Duration::MAX, max: Duration::MAX };
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &ServerConfig { debounce: Some(endless), ..config() });
    peer.subscribe(A, &[]);
    peer.ack(A);
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
    peer.ack(A);
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.after(MS), ["A[a@2]"]);
}
