//! Make before break: phases, barriers, children, grace.

use std::time::Duration;

use imp_xds::{Change, ResourceSet, TypeRules};

use crate::peer::{A, B, Peer, config, put, remove, resource, resource_set};

const MS: Duration = Duration::from_millis(1);

fn none() -> Vec<String> {
    Vec::new()
}

fn both(set: &ResourceSet) -> Peer {
    let mut peer = Peer::new(set, &config());
    peer.subscribe(A, &[]);
    peer.subscribe(B, &[]);
    peer.settle();
    peer
}

#[test]
fn r60_r61_a_later_phase_waits_for_the_ack_of_the_earlier_one() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(B, "b", "2"), (A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"]);
    assert_eq!(peer.after(MS), none());
    assert_eq!(peer.ack(A), ["B[b@2]"]);
}

#[test]
fn r61_a_barrier_is_bounded() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(B, "b", "2"), (A, "a", "2")]);
    peer.poll();
    let due = peer.stream.deadline(peer.now).expect("a deadline");
    assert_eq!(due - peer.now, config().barrier_timeout);
    peer.now = due;
    assert_eq!(peer.poll(), ["B[b@2]"]);
}

#[test]
fn r61_a_phase_that_never_rests_does_not_starve_the_next() {
    let held = resource_set(&[(A, "a", "0"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(B, "b", "2")]);
    let start = peer.now;
    for version in 1.. {
        put(&held, &[(A, "a", &version.to_string())]);
        peer.now += 100 * MS;
        if peer.poll().iter().any(|r| r == "B[b@2]") {
            break;
        }
        let came = peer.open.iter().any(|open| open.type_url.as_str() == A);
        put(&held, &[(A, "a", &format!("{version} again"))]);
        if came && peer.ack(A).iter().any(|r| r == "B[b@2]") {
            break;
        }
        assert!(peer.now - start < Duration::from_secs(5), "B is starved");
    }
}

#[test]
fn r61_a_phase_that_never_rests_lends_its_time_to_nobody() {
    let held = resource_set(&[(A, "a", "0"), (B, "b", "1")]);
    let mut peer = both(&held);
    put(&held, &[(A, "a", "start")]);
    peer.poll();
    for version in 0..19 {
        put(&held, &[(A, "a", &version.to_string())]);
        peer.after(100 * MS);
        assert_eq!(peer.ack(A).len(), 1);
    }
    put(&held, &[(A, "a", "new"), (B, "b", "which needs it")]);
    assert_eq!(peer.after(150 * MS), none(), "B has waited for a moment only");
    assert_eq!(peer.ack(A), ["A[a@new]"]);
    assert_eq!(peer.ack(A), ["B[b@which needs it]"]);
}

#[test]
fn r61_a_type_that_is_subscribed_late_keeps_its_place_in_the_order() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(B, &[]), ["B[b@1]"]);
    peer.ack(B);
    assert_eq!(peer.subscribe(A, &[]), ["A[a@1]"]);
    peer.ack(A);
    put(&held, &[(B, "b", "2"), (A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"]);
}

#[test]
fn r60_r64_removals_go_in_reverse_and_the_last_after_a_grace() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = both(&held);
    let mut change = Change::default();
    change.remove(A, "a");
    change.remove(B, "b");
    change.upsert(B, resource("b2", "1"));
    held.apply(change);
    assert_eq!(peer.poll(), ["B[b2@1]"]);
    assert_eq!(peer.ack(B), ["B[-b]"]);
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.after(config().removal_grace - MS), none());
    assert_eq!(peer.after(MS), ["A[-a]"]);
}

#[test]
fn r64_on_the_service_of_one_type_nothing_but_the_last_has_a_grace() {
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let of_type = |of| {
        let mut peer = Peer::of_type(&held, &config(), of);
        peer.subscribe(of, &[]);
        peer.ack(of);
        peer
    };
    let (mut of_a, mut of_b) = (of_type(A), of_type(B));
    remove(&held, A, "a");
    remove(&held, B, "b");
    assert_eq!(of_b.poll(), ["B[-b]"]);
    assert_eq!(of_a.poll(), none());
    assert_eq!(of_a.after(config().removal_grace), ["A[-a]"]);
}

#[test]
fn r64_each_removal_has_a_grace_of_its_own() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = both(&held);
    remove(&held, A, "a");
    assert_eq!(peer.poll(), none());
    peer.after(config().removal_grace - MS);
    remove(&held, A, "b");
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.after(MS), ["A[-a]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(config().removal_grace), ["A[-b]"]);
}

#[test]
fn r64_what_comes_back_within_the_grace_is_never_removed() {
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = both(&held);
    remove(&held, A, "a");
    assert_eq!(peer.poll(), none());
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
    peer.ack(A);
    assert_eq!(peer.after(Duration::from_secs(10)), none());
}

fn parent(version: &str) -> Change {
    let mut change = Change::default();
    let child = (B.into(), "endpoints".into());
    change.upsert(A, resource("cluster", version).with_children([child]));
    change
}

#[test]
fn r62_r63_children_follow_their_parent_though_they_did_not_change() {
    let held = resource_set(&[(B, "endpoints", "1")]);
    held.apply(parent("1"));
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    peer.ack(A);
    assert_eq!(peer.subscribe(B, &["endpoints"]), ["B[endpoints@1]"]);
    peer.settle();
    held.apply(parent("2"));
    assert_eq!(peer.poll(), ["A[cluster@2]"]);
    assert_eq!(peer.ack(A), ["B[endpoints@1]"]);
}

#[test]
fn r62_children_of_an_equal_phase_go_right_behind_their_parent() {
    let equal = imp_xds::ServerConfig::new(vec![TypeRules::new(A, 0), TypeRules::new(B, 0)]);
    let held = resource_set(&[(B, "endpoints", "1")]);
    held.apply(parent("1"));
    let mut peer = Peer::new(&held, &equal);
    peer.subscribe(A, &[]);
    peer.subscribe(B, &["endpoints"]);
    peer.settle();
    held.apply(parent("2"));
    assert_eq!(peer.poll(), ["A[cluster@2]", "B[endpoints@1]"]);
}

#[test]
fn r61_what_refers_to_a_parent_waits_until_its_children_are_acknowledged() {
    const C: &str = "type.test/C";
    let mut config = config();
    config.types.push(TypeRules::new(C, 2));
    let held = resource_set(&[(C, "route", "1")]);
    let mut peer = Peer::new(&held, &config);
    peer.subscribe(A, &[]);
    peer.subscribe(C, &["route"]);
    peer.settle();
    put(&held, &[(C, "route", "2"), (B, "endpoints", "1")]);
    held.apply(parent("1"));
    assert_eq!(peer.poll(), ["A[cluster@1]"]);
    assert_eq!(peer.ack(A), none(), "the cluster is there, its endpoints are not");
    assert_eq!(peer.subscribe(B, &["endpoints"]), ["B[endpoints@1]"]);
    assert_eq!(peer.ack(B), ["C[route@2]"]);
}

#[test]
fn r61_a_child_that_nobody_asks_for_is_not_waited_for_for_ever() {
    const C: &str = "type.test/C";
    let mut config = config();
    config.types.push(TypeRules::new(C, 2));
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &config);
    peer.subscribe(A, &[]);
    peer.ack(A);
    peer.subscribe(C, &[]);
    peer.settle();
    put(&held, &[(C, "route", "2"), (B, "endpoints", "1")]);
    held.apply(parent("1"));
    peer.poll();
    assert_eq!(peer.ack(A), none());
    let due = peer.stream.deadline(peer.now).expect("a deadline");
    assert!(due <= peer.now + config.barrier_timeout);
    peer.now = due;
    assert_eq!(peer.poll(), ["C[route@2]"]);
}

#[test]
fn limits_without_end_are_no_overflow() {
    let mut endless = config();
    (endless.barrier_timeout, endless.removal_grace) = (Duration::MAX, Duration::MAX);
    let held = resource_set(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = Peer::new(&held, &endless);
    peer.subscribe(A, &[]);
    peer.subscribe(B, &[]);
    assert_eq!(peer.ack(A), ["B[b@1]"]);
    remove(&held, A, "a");
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.stream.deadline(peer.now), None);
}

#[test]
fn r61_what_a_slow_phase_has_held_up_too_long_takes_nothing_newer_along() {
    let held = resource_set(&[(A, "old", "1"), (B, "old", "1")]);
    let mut peer = both(&held);
    // Each cluster hangs for almost a second, and there is always another one.
    put(&held, &[(A, "c0", "1"), (B, "s0", "1")]);
    assert_eq!(peer.poll(), ["A[c0@1]"]);
    put(&held, &[(A, "c1", "1")]);
    peer.after(900 * MS);
    assert_eq!(peer.ack(A), ["A[c1@1]"]);
    put(&held, &[(A, "mine", "1"), (B, "mine", "1")]);
    peer.after(900 * MS);
    assert_eq!(peer.ack(A), ["A[mine@1]"]);
    assert_eq!(peer.after(200 * MS), ["B[s0@1]"], "the cluster of the other one is on its way");
    assert_eq!(peer.ack(B), none());
    assert_eq!(peer.ack(A), ["B[mine@1]"]);
}

#[test]
fn r61_who_never_answers_holds_up_newer_ones_for_a_barrier_too() {
    let held = resource_set(&[(A, "old", "1"), (B, "old", "1")]);
    let mut peer = both(&held);
    put(&held, &[(A, "c0", "1"), (B, "s0", "1")]);
    peer.poll();
    put(&held, &[(B, "s1", "1")]);
    assert_eq!(peer.after(1_000 * MS), none());
    assert_eq!(peer.after(1_000 * MS), ["B[s0@1 s1@1]"]);
}
