//! R75, on the pure state machine: a resource with a TTL stays with the client while it gets
//! heartbeats. A TTL here is 8 s, so that a heartbeat is due after 4 s.

use std::time::Duration;

use imp_xds::stream::Variant;
use imp_xds::wire::DeltaDiscoveryRequest;
use imp_xds::{Change, ResourceSet, TypeRules};

use crate::peer::{A, B, Peer, config, put, remove, resource, resource_set};

const TTL: Duration = Duration::from_secs(8);
const HALF: Duration = Duration::from_secs(4);
const MS: Duration = Duration::from_millis(1);

const KNOWN: &[&str] = &["xds.config.supports-resource-ttl"];
const KNOWN_IN_LISTS: &[&str] =
    &["envoy.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw"];

fn none() -> Vec<String> {
    Vec::new()
}

fn keep(set: &ResourceSet, resources: &[(&str, &str, &str)]) {
    let mut change = Change::default();
    for (type_url, name, version) in resources {
        change.upsert(*type_url, resource(name, version).with_ttl(TTL));
    }
    set.apply(change);
}

fn kept(resources: &[(&str, &str, &str)]) -> ResourceSet {
    let set = resource_set(&[]);
    keep(&set, resources);
    set
}

/// A client that supports TTLs, and has all of A.
fn peer(set: &ResourceSet) -> Peer {
    let mut peer = Peer::new(set, &config()).listing(KNOWN);
    peer.subscribe(A, &[]);
    peer.ack(A);
    peer
}

/// How long the body's timer would sleep.
fn sleep(peer: &Peer) -> Option<Duration> {
    peer.stream.deadline(peer.now).map(|due| due - peer.now)
}

#[test]
fn r75_a_heartbeat_goes_out_at_half_of_the_ttl_and_again() {
    let mut peer = peer(&kept(&[(A, "a", "1")]));
    assert_eq!(sleep(&peer), Some(HALF));
    for _ in 0..3 {
        assert_eq!(peer.after(HALF - MS), none());
        assert_eq!(peer.after(MS), ["A[~a@1]"]);
        assert_eq!(peer.ack(A), none());
        assert_eq!(sleep(&peer), Some(HALF), "the timer is set for the next one");
    }
    assert_eq!(peer.stream.types()[0].counts().acked, 4);
}

#[test]
fn r75_what_has_no_ttl_needs_no_heartbeat() {
    let set = kept(&[(A, "a", "1")]);
    put(&set, &[(A, "b", "1")]);
    let mut peer = peer(&set);
    assert_eq!(peer.after(HALF), ["A[~a@1]"]);
    peer.ack(A);
    put(&set, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"], "without a TTL now");
    assert_eq!(peer.ack(A), none());
    assert_eq!((sleep(&peer), peer.after(100 * HALF)), (None, none()));
}

#[test]
fn r75_who_does_not_list_it_gets_no_heartbeats() {
    let set = kept(&[(A, "a", "1")]);
    for features in [&[][..], &["envoy.lb.something"], &["supports-resource-ttl"]] {
        let mut peer = Peer::new(&set, &config()).listing(features);
        peer.subscribe(A, &[]);
        peer.ack(A);
        assert_eq!((sleep(&peer), peer.after(100 * HALF)), (None, none()));
    }
}

#[test]
fn r75_either_spelling_will_do() {
    let set = kept(&[(A, "a", "1")]);
    for prefix in ["xds", "envoy"] {
        let feature = format!("{prefix}.config.supports-resource-ttl");
        let mut peer = Peer::new(&set, &config()).listing(&["other", &feature]);
        peer.subscribe(A, &[]);
        peer.ack(A);
        assert_eq!(peer.after(HALF), ["A[~a@1]"]);
    }
}

#[test]
fn r75_r80_a_heartbeat_waits_for_the_answer_to_the_response_before() {
    let set = kept(&[(A, "a", "1")]);
    let mut peer = peer(&set);
    keep(&set, &[(A, "b", "1")]);
    assert_eq!(peer.poll(), ["A[b@1]"]);
    assert_eq!(peer.after(2 * HALF), none());
    assert_eq!(peer.ack(A), ["A[~a@1 ~b@1]"]);
    assert_eq!(peer.after(2 * HALF), none(), "a heartbeat is to be answered too");
    assert_eq!(peer.ack(A), ["A[~a@1 ~b@1]"]);
}

#[test]
fn r75_heartbeats_that_are_nearly_due_go_together() {
    let set = kept(&[(A, "a", "1")]);
    let mut peer = peer(&set);
    for (name, late) in [("b", HALF / 2), ("c", HALF / 4)] {
        peer.after(late);
        keep(&set, &[(A, name, "1")]);
        peer.poll();
        peer.ack(A);
    }
    assert_eq!(peer.after(HALF / 4), ["A[~a@1 ~b@1]"], "c is new");
    peer.ack(A);
    assert_eq!(sleep(&peer), Some(HALF * 3 / 4), "of c");
}

#[test]
fn r75_what_is_gone_or_unsubscribed_needs_no_heartbeat() {
    let set = kept(&[(A, "a", "1"), (A, "b", "1"), (A, "c", "1")]);
    let mut peer = Peer::new(&set, &config()).listing(KNOWN);
    peer.subscribe(A, &["a", "b", "c"]);
    peer.ack(A);
    peer.change(A, &[], &["a"]);
    remove(&set, A, "b");
    peer.poll();
    assert_eq!(peer.after(config().removal_grace), ["A[-b]"]);
    peer.ack(A);
    assert_eq!(peer.after(HALF), ["A[~c@1]"]);
    peer.change(A, &[], &["c"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!((sleep(&peer), peer.after(100 * HALF)), (None, none()));
}

#[test]
fn r75_what_went_while_it_was_under_way_is_removed_and_needs_no_heartbeat() {
    let set = kept(&[(A, "a", "1")]);
    let mut peer = peer(&set);
    peer.after(HALF);
    remove(&set, A, "a");
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(config().removal_grace), ["A[-a]"]);
    peer.ack(A);
    assert_eq!((sleep(&peer), peer.after(100 * HALF)), (None, none()));
}

#[test]
fn r75_a_refused_version_needs_no_heartbeat() {
    let set = kept(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = peer(&set);
    keep(&set, &[(A, "a", "2")]);
    peer.poll();
    assert_eq!(peer.nack(A, "no"), none());
    assert_eq!(peer.after(HALF), ["A[~b@1]"]);
    peer.ack(A);
    keep(&set, &[(A, "a", "3")]);
    peer.poll();
    peer.ack(A);
    assert_eq!(peer.after(HALF), ["A[~a@3 ~b@1]"], "repaired");
}

#[test]
fn r75_who_refuses_a_heartbeat_gets_it_whole_and_may_refuse_that() {
    let mut peer = peer(&kept(&[(A, "a", "1"), (A, "b", "1")]));
    peer.after(HALF);
    assert_eq!(peer.nack(A, "I do not hold that"), ["A[a@1 b@1]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(HALF), ["A[~a@1 ~b@1]"]);
    peer.nack(A, "I do not hold that");
    assert_eq!(peer.nack(A, "and b is bad"), ["A[a@1]"], "R34");
    assert_eq!(peer.ack(A), ["A[b@1]"]);
    assert_eq!(peer.nack(A, "bad"), none());
    assert_eq!(peer.stream.types()[0].refused().count(), 1);
    assert_eq!(peer.after(HALF), ["A[~a@1]"]);
}

#[test]
fn r75_the_refusal_of_a_heartbeat_accuses_nothing() {
    let mut peer = peer(&kept(&[(A, "a", "1")]));
    peer.after(HALF);
    let refusal = imp_xds::wire::Status { code: 13, message: "no".to_owned() };
    let outcome = peer.request(DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        response_nonce: peer.open[0].nonce.clone(),
        error_detail: Some(refusal),
        ..Default::default()
    });
    let answer = outcome.answer.expect("an answer");
    assert_eq!((answer.refusal.as_deref(), answer.resources.len()), (Some("no"), 0));
}

#[test]
fn r75_a_heartbeat_holds_up_no_phase_but_what_changed_keeps_its_order() {
    let set = kept(&[(A, "a", "1"), (B, "b", "1")]);
    let mut peer = Peer::new(&set, &config()).listing(KNOWN);
    peer.subscribe(A, &[]);
    peer.subscribe(B, &[]);
    peer.ack(A);
    peer.ack(B);
    assert_eq!(peer.after(HALF), ["A[~a@1]", "B[~b@1]"]);
    peer.ack(B);
    put(&set, &[(B, "new", "1")]);
    assert_eq!(peer.poll(), ["B[new@1]"], "A's heartbeat is not answered, and nothing of A is new");
    peer.ack(B);
    put(&set, &[(A, "new", "1"), (B, "new", "2")]);
    assert_eq!(peer.poll(), none(), "B refers to what is new in A");
    assert_eq!(peer.ack(A), ["A[new@1]"]);
    assert_eq!(peer.ack(A), ["B[new@2]"]);
}

#[test]
fn r75_changes_without_end_do_not_keep_heartbeats_back() {
    let set = kept(&[(A, "kept", "1")]);
    let mut peer = peer(&set);
    let mut heard = 0;
    for version in 0..100 {
        put(&set, &[(A, "busy", &version.to_string())]);
        peer.after(HALF / 10);
        heard += usize::from(peer.open[0].heartbeats().count() == 1);
        put(&set, &[(A, "busy", &format!("{version} again"))]);
        peer.ack(A);
    }
    assert_eq!(heard, 100 / 10 - 1, "as often as without changes");
}

#[test]
fn r75_r37_what_a_client_brings_along_hears_of_itself_at_once() {
    let set = kept(&[(A, "a", "1"), (A, "b", "2")]);
    put(&set, &[(A, "c", "1")]);
    let mut peer = Peer::new(&set, &config()).listing(KNOWN);
    let held = [("a", "1"), ("b", "1"), ("c", "1")];
    peer.request(DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        initial_resource_versions: held.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        ..Default::default()
    });
    assert_eq!(peer.poll(), ["A[~a@1]"], "who knows how long ago it heard of it");
    assert_eq!(peer.ack(A), ["A[b@2]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(HALF), ["A[~a@1 ~b@2]"]);
}

#[test]
fn r75_r70_where_no_content_means_nothing_it_goes_along() {
    let mut hosts = TypeRules::new(A, 0);
    hosts.missing_is_empty = true;
    let config = imp_xds::ServerConfig::new(vec![hosts]);
    let mut peer = Peer::new(&kept(&[(A, "a", "1")]), &config).listing(KNOWN);
    peer.subscribe(A, &["a"]);
    peer.ack(A);
    assert_eq!(peer.after(HALF), ["A[(a@1)]"]);
}

#[test]
fn r75_a_list_is_sent_again_as_it_is() {
    let (mut full, mut named) = (TypeRules::new(A, 0), TypeRules::new(B, 1));
    (full.full_state, named.legacy_wildcard) = (true, false);
    let config = imp_xds::ServerConfig::new(vec![full, named]);
    let set = kept(&[(A, "a", "1"), (B, "b", "1")]);
    put(&set, &[(A, "for ever", "1"), (B, "for ever", "1")]);
    for (features, knows) in [(KNOWN_IN_LISTS, true), (KNOWN, false)] {
        let mut peer = Peer::speaking(Variant::StateOfTheWorld, &set, &config).listing(features);
        peer.list(A, &[]);
        peer.ack(A);
        peer.list(B, &["b", "for ever"]);
        peer.ack(B);
        let mut sent = peer.after(HALF);
        // The order within a full response is undefined.
        sent.iter_mut()
            .for_each(|text| *text = text.replace("(for ever@1) (a@1)", "(a@1) (for ever@1)"));
        let again = ["A[(a@1) (for ever@1)]", "B[(b@1)]"];
        assert_eq!(sent, if knows { again.to_vec() } else { Vec::new() });
        if knows {
            assert_eq!(peer.ack(A), none());
            assert_eq!(peer.ack(B), none());
            assert_eq!(sleep(&peer), Some(HALF));
        }
    }
}

#[test]
fn r75_a_refused_list_does_not_let_its_good_members_expire() {
    let full = TypeRules { full_state: true, ..TypeRules::new(A, 0) };
    let config = imp_xds::ServerConfig::new(vec![full]);
    let set = kept(&[(A, "a", "1")]);
    let mut peer = Peer::speaking(Variant::StateOfTheWorld, &set, &config).listing(KNOWN_IN_LISTS);
    peer.list(A, &[]);
    peer.ack(A);
    keep(&set, &[(A, "b", "bad")]);
    assert_eq!(peer.poll(), ["A[b@bad (a@1)]"]);
    assert_eq!(peer.nack(A, "b is bad"), none());
    assert_eq!(peer.after(HALF).len(), 1);
    assert_eq!(peer.nack(A, "b is bad"), none());
    assert_eq!(peer.after(HALF).len(), 1);
}

#[test]
fn r75_a_ttl_without_length_is_no_storm() {
    let set = resource_set(&[]);
    let mut change = Change::default();
    change.upsert(A, resource("a", "1").with_ttl(Duration::ZERO));
    change.upsert(A, resource("b", "1").with_ttl(Duration::MAX));
    set.apply(change);
    let mut peer = peer(&set);
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.after(10 * MS), ["A[~a@1]"]);
    assert_eq!(peer.ack(A), none());
}
