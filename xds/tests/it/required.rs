//! Resources that wait until their client has others (R68).

use std::collections::HashMap;

use imp_xds::stream::Variant;
use imp_xds::wire::DeltaDiscoveryRequest;
use imp_xds::{Change, Resource, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, remove, resource, resource_set};

fn none() -> Vec<String> {
    Vec::new()
}

/// B requires A, and both are of one phase, like scopes and routes.
fn config() -> ServerConfig {
    ServerConfig::new(vec![TypeRules::new(B, 1), TypeRules::new(A, 1)])
}

fn dependant(name: &str, version: &str, required: &str) -> Resource {
    resource(name, version).with_required([(A.into(), required.into())])
}

fn put_dependant(set: &ResourceSet, name: &str, version: &str, required: &str) {
    let mut change = Change::default();
    change.upsert(B, dependant(name, version, required));
    set.apply(change);
}

/// A client of B that subscribes to A by name.
fn client(set: &ResourceSet, names: &[&str]) -> Peer {
    let mut peer = Peer::new(set, &config());
    peer.subscribe(A, names);
    peer.subscribe(B, &[]);
    peer.settle();
    peer
}

fn pending(peer: &Peer, type_url: &str) -> usize {
    let of_type = peer.stream.types().iter().find(|t| t.rules().type_url.as_str() == type_url);
    of_type.expect("a type").pending()
}

#[test]
fn r68_it_is_sent_when_what_it_requires_is_acknowledged_and_holds_up_nothing() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["table"]);
    let mut change = Change::default();
    change.upsert(B, dependant("host", "1", "table"));
    change.upsert(B, resource("other", "1"));
    change.upsert(A, resource("table", "1"));
    set.apply(change);
    assert_eq!(peer.poll(), ["B[other@1]", "A[table@1]"]);
    assert_eq!(peer.ack(B), none(), "the table is not acknowledged");
    assert!(!peer.stream.is_settled() && !peer.stream.is_idle());
    assert_eq!((pending(&peer, B), pending(&peer, A)), (1, 0));
    assert_eq!(peer.ack(A), ["B[host@1]"]);
    peer.ack(B);
    assert!(peer.stream.is_settled());
}

#[test]
fn r68_a_client_that_has_not_subscribed_to_it_gets_it_when_it_has() {
    let set = resource_set(&[(A, "table", "1")]);
    let mut peer = Peer::new(&set, &config());
    put_dependant(&set, "host", "1", "table");
    put(&set, &[(B, "holder", "1")]);
    assert_eq!(peer.subscribe(B, &[]), ["B[holder@1]"]);
    assert_eq!(peer.ack(B), none());
    assert!(peer.stream.is_idle() && !peer.stream.is_settled());
    assert_eq!(peer.subscribe(A, &["table"]), ["A[table@1]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
    assert_eq!(peer.ack(B), none());
    assert!(peer.stream.is_settled());
}

#[test]
fn r68_a_refused_one_keeps_it_back_until_it_changes() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["table"]);
    put(&set, &[(A, "table", "1")]);
    put_dependant(&set, "host", "1", "table");
    assert_eq!(peer.poll(), ["A[table@1]"]);
    assert_eq!(peer.nack(A, "no"), none());
    put(&set, &[(B, "other", "1")]);
    assert_eq!(peer.poll(), ["B[other@1]"]);
    assert_eq!(peer.ack(B), none());
    let refused =
        |peer: &Peer| peer.stream.types().iter().map(|t| t.refused().count()).sum::<usize>();
    assert_eq!((refused(&peer), pending(&peer, B)), (1, 1), "it was not refused itself");
    put(&set, &[(A, "table", "2")]);
    assert_eq!(peer.poll(), ["A[table@2]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
}

#[test]
fn r68_it_may_move_to_another_one() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["bad", "good"]);
    put(&set, &[(A, "bad", "1"), (A, "good", "1")]);
    put_dependant(&set, "host", "1", "bad");
    assert_eq!(peer.poll(), ["A[bad@1 good@1]"]);
    assert_eq!(peer.nack(A, "bad is bad"), ["A[good@1]"]);
    assert_eq!(peer.ack(A), ["A[bad@1]"]);
    assert_eq!(peer.nack(A, "no"), none());
    put_dependant(&set, "host", "2", "good");
    assert_eq!(peer.poll(), ["B[host@2]"]);
}

#[test]
fn r68_the_program_may_have_the_refused_one_tried_again() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["table"]);
    put(&set, &[(A, "table", "1")]);
    put_dependant(&set, "host", "1", "table");
    peer.poll();
    peer.nack(A, "the port is taken");
    assert!(peer.stream.retry(&A.into(), "table"));
    assert_eq!(peer.poll(), ["A[table@1]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
}

#[test]
fn r68_it_waits_for_the_current_version() {
    let set = resource_set(&[(A, "table", "1")]);
    let mut peer = client(&set, &["table"]);
    put(&set, &[(A, "table", "2")]);
    assert_eq!(peer.poll(), ["A[table@2]"]);
    put(&set, &[(A, "table", "3")]);
    put_dependant(&set, "host", "1", "table");
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.ack(A), ["A[table@3]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
}

#[test]
fn r68_what_does_not_exist_is_not_waited_for() {
    let set = resource_set(&[(A, "table", "1")]);
    let mut peer = client(&set, &["table"]);
    put_dependant(&set, "free", "1", "nothing");
    assert_eq!(peer.poll(), ["B[free@1]"]);
    peer.ack(B);
    put(&set, &[(A, "table", "2")]);
    put_dependant(&set, "host", "1", "table");
    assert_eq!(peer.poll(), ["A[table@2]"]);
    remove(&set, A, "table");
    assert_eq!(peer.poll(), ["B[host@1]"], "what it required is gone");
    let mut dark = Change::default();
    dark.retain(A, "dark");
    set.apply(dark);
    put_dependant(&set, "other", "1", "dark");
    peer.ack(A);
    assert_eq!(peer.ack(B), ["B[other@1]"], "the client may have it");
}

#[test]
fn r68_one_that_was_unsubscribed_is_missing_again() {
    let set = resource_set(&[(A, "table", "1")]);
    let mut peer = client(&set, &["table"]);
    peer.change(A, &[], &["table"]);
    put_dependant(&set, "host", "1", "table");
    assert_eq!(peer.poll(), none());
    assert_eq!(peer.subscribe(A, &["table"]), ["A[table@1]"]);
    assert_eq!(peer.ack(A), ["B[host@1]"]);
}

#[test]
fn r68_what_was_unsubscribed_or_removed_waits_no_longer() {
    let set = resource_set(&[]);
    let mut named = Peer::new(&set, &config());
    put_dependant(&set, "host", "1", "hidden");
    put(&set, &[(A, "hidden", "1")]);
    put_dependant(&set, "gone", "1", "hidden");
    named.subscribe(B, &["host", "gone"]);
    assert_eq!(pending(&named, B), 2);
    named.change(B, &[], &["host"]);
    assert_eq!(pending(&named, B), 1);
    remove(&set, B, "gone");
    assert_eq!(named.poll(), none());
    assert_eq!(named.after(config().removal_grace), ["B[-gone]"]);
    named.ack(B);
    assert!(named.stream.is_settled());
}

#[test]
fn r68_what_the_client_had_when_the_stream_began_is_no_reason_to_wait() {
    let set = resource_set(&[(A, "table", "1"), (A, "other", "2")]);
    put_dependant(&set, "host", "1", "table");
    put_dependant(&set, "late", "1", "other");
    let mut peer = Peer::new(&set, &config());
    let versions = [("table", "1"), ("other", "1")];
    let versions = versions.map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(peer.subscribe(B, &[]), ["B[]"], "nothing is known of A");
    peer.ack(B);
    // Requested names are sent again (R38), but the host need not wait for that.
    peer.request(DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        resource_names_subscribe: vec!["table".to_owned(), "other".to_owned()],
        initial_resource_versions: HashMap::from(versions),
        ..Default::default()
    });
    assert_eq!(peer.poll(), ["A[other@2 table@1]", "B[host@1]"]);
    peer.ack(B);
    assert_eq!(peer.ack(A), ["B[late@1]"]);
}

#[test]
fn r68_resources_of_one_type_may_require_each_other() {
    let set = resource_set(&[]);
    let mut change = Change::default();
    change.upsert(A, dependant("3", "1", "2"));
    change.upsert(A, dependant("2", "1", "1"));
    change.upsert(A, resource("1", "1"));
    set.apply(change);
    let mut peer = Peer::new(&set, &config());
    assert_eq!(peer.subscribe(A, &[]), ["A[1@1]"]);
    assert_eq!(peer.ack(A), ["A[2@1]"]);
    assert_eq!(peer.ack(A), ["A[3@1]"]);
}

#[test]
fn r68_removals_go_first_from_what_requires_and_then_from_what_is_required() {
    let set = resource_set(&[(A, "table", "1")]);
    put_dependant(&set, "host", "1", "table");
    let types = vec![TypeRules::new(B, 2), TypeRules::new(A, 1), TypeRules::new("type.test/C", 0)];
    let mut peer = Peer::new(&set, &ServerConfig::new(types));
    peer.subscribe(A, &["table"]);
    peer.subscribe(B, &[]);
    peer.settle();
    let mut change = Change::default();
    change.remove(A, "table");
    change.remove(B, "host");
    set.apply(change);
    assert_eq!(peer.poll(), ["B[-host]"]);
    assert_eq!(peer.ack(B), ["A[-table]"]);
}

#[test]
fn r68_over_the_state_of_the_world_it_waits_too() {
    let set = resource_set(&[(A, "table", "1"), (B, "host", "1")]);
    let mut peer = Peer::speaking(Variant::StateOfTheWorld, &set, &config());
    peer.list(A, &["table"]);
    peer.ack(A);
    peer.list(B, &[]);
    peer.ack(B);
    put(&set, &[(A, "table", "2")]);
    put_dependant(&set, "host", "2", "table");
    assert_eq!(peer.poll(), ["A[table@2]"]);
    assert_eq!(peer.nack(A, "no"), none());
    put(&set, &[(A, "table", "3")]);
    assert_eq!(peer.poll(), ["A[table@3]"]);
    assert_eq!(peer.ack(A), ["B[host@2]"]);
}

#[test]
fn r68_what_is_kept_back_costs_nothing_when_something_else_is_sent() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["table", "refused"]);
    put(&set, &[(A, "refused", "1")]);
    let mut change = Change::default();
    for n in 0..2_000 {
        change.upsert(B, dependant(&format!("kept back {n}"), "1", "refused"));
    }
    set.apply(change);
    peer.poll();
    peer.nack(A, "no");
    assert_eq!(pending(&peer, B), 2_000);
    let start = std::time::Instant::now();
    for version in 0..2_000 {
        put(&set, &[(B, "other", &version.to_string())]);
        peer.poll();
        peer.ack(B);
    }
    let each = start.elapsed() / 2_000;
    assert!(each < std::time::Duration::from_millis(2), "{each:?} for one change");
}

#[test]
fn r68_on_the_service_of_one_type_nothing_waits_for_another() {
    let set = resource_set(&[]);
    let mut change = Change::default();
    change.upsert(B, dependant("host", "1", "table"));
    change.upsert(A, resource("table", "1"));
    set.apply(change);
    let mut peer = Peer::of_type(&set, &config(), B);
    let sent = peer.subscribe(B, &[]);
    assert_eq!(sent, ["B[host@1]"], "what it has on its other streams is not known");
}

/// To look at all of them at once would hold up other streams and changes.
#[test]
fn r68_many_that_wait_are_looked_at_in_portions_and_hold_up_nothing() {
    let set = resource_set(&[]);
    let mut peer = client(&set, &["table"]);
    let mut change = Change::default();
    (0..20_000).for_each(|number| change.upsert(B, dependant(&format!("{number}"), "1", "table")));
    change.upsert(B, resource("other", "1"));
    change.upsert(A, resource("table", "1"));
    set.apply(change);
    assert_eq!(peer.poll(), ["A[table@1]"]);
    let portions = (1..100).find(|_| {
        peer.now = peer.stream.deadline(peer.now).expect("it looks again");
        peer.poll() == ["B[other@1]"]
    });
    assert_eq!(portions, Some(4), "without an answer");
    peer.ack(A);
    peer.settle();
    assert_eq!(peer.held.len(), 20_002);
    assert!(peer.stream.is_settled());
}

/// What refers to them must not overtake those that were not looked at.
#[test]
fn r68_a_later_phase_waits_until_all_were_looked_at() {
    let set = resource_set(&[]);
    let later = "type.test/C";
    let types = [TypeRules::new(A, 1), TypeRules::new(B, 1), TypeRules::new(later, 2)];
    let mut peer = Peer::new(&set, &ServerConfig::new(types.into()));
    peer.subscribe(A, &["elsewhere"]);
    peer.subscribe(B, &[]);
    peer.subscribe(later, &[]);
    peer.settle();
    let mut change = Change::default();
    (0..5_000).for_each(|number| change.upsert(B, dependant(&format!("{number}"), "1", "table")));
    change.upsert(B, resource("other", "1"));
    change.upsert(later, resource("refers to other", "1"));
    change.upsert(A, resource("table", "1"));
    set.apply(change);
    assert_eq!(peer.poll(), none());
    peer.now = peer.stream.deadline(peer.now).expect("it looks again");
    assert_eq!(peer.poll(), ["B[other@1]"]);
    assert_eq!(peer.ack(B), ["C[refers to other@1]"]);
}
