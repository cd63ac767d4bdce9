//! Aliases, names that are answered with nothing, and names that follow a parent: what on-demand
//! virtual hosts need.

use imp_xds::{Change, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, remove, resource, resource_set};

/// B are the virtual hosts of A.
fn config() -> ServerConfig {
    let mut hosts = TypeRules::new(B, 1);
    hosts.legacy_wildcard = false;
    hosts.missing_is_empty = true;
    hosts.named_after = Some(A.into());
    ServerConfig::new(vec![TypeRules::new(A, 0), hosts])
}

fn host(set: &ResourceSet, name: &str, version: &str, aliases: &[&str]) {
    let mut change = Change::default();
    let aliases = aliases.iter().map(|&alias| alias.into());
    change.upsert(B, resource(name, version).with_aliases(aliases));
    set.apply(change);
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn r18_a_resource_is_subscribed_by_its_aliases_too() {
    let held = resource_set(&[]);
    host(&held, "routes/shop", "1", &["routes/a.test", "routes/b.test"]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(B, &["routes/a.test"]), ["B[routes/shop@1]"]);
    peer.ack(B);
    host(&held, "routes/shop", "2", &["routes/a.test", "routes/b.test"]);
    assert_eq!(peer.poll(), ["B[routes/shop@2]"]);
    peer.ack(B);
    // R19: subscribing to two names of one resource sends it once.
    let again = peer.subscribe(B, &["routes/a.test", "routes/b.test", "routes/shop"]);
    assert_eq!(again, ["B[routes/shop@2]"]);
    peer.ack(B);
    assert_eq!(peer.change(B, &[], &["routes/shop", "routes/a.test"]), none());
    host(&held, "routes/shop", "3", &["routes/b.test"]);
    assert_eq!(peer.poll(), ["B[routes/shop@3]"]);
    peer.ack(B);
    assert_eq!(peer.change(B, &[], &["routes/b.test"]), none());
    host(&held, "routes/shop", "4", &["routes/b.test"]);
    assert_eq!(peer.poll(), none());
}

#[test]
fn r70_a_host_that_nobody_knows_is_answered_with_nothing_and_sent_when_it_appears() {
    let held = resource_set(&[]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(B, &["routes/a.test"]), ["B[routes/a.test@nothing]"]);
    peer.ack(B);
    host(&held, "routes/shop", "1", &["routes/a.test"]);
    assert_eq!(peer.poll(), ["B[routes/shop@1]"]);
    peer.ack(B);
    remove(&held, B, "routes/shop");
    assert_eq!(peer.poll(), ["B[-routes/shop]"]);
}

#[test]
fn r70_an_update_of_routes_brings_their_subscribed_hosts_again() {
    let held = resource_set(&[(A, "routes", "1"), (A, "other", "1")]);
    host(&held, "routes/shop", "1", &["routes/a.test"]);
    host(&held, "routes/unasked", "1", &[]);
    host(&held, "other/shop", "1", &[]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &["routes", "other"]);
    peer.subscribe(B, &["routes/a.test", "other/shop"]);
    peer.settle();
    put(&held, &[(A, "routes", "2")]);
    assert_eq!(peer.poll(), ["A[routes@2]"]);
    assert_eq!(peer.ack(A), ["B[routes/shop@1]"]);
}

#[test]
fn an_alias_that_moves_takes_its_subscribers_along() {
    let held = resource_set(&[]);
    host(&held, "routes/old", "1", &["routes/a.test"]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(B, &["routes/a.test"]);
    peer.ack(B);
    host(&held, "routes/old", "2", &[]);
    host(&held, "routes/new", "1", &["routes/a.test"]);
    assert_eq!(peer.poll(), ["B[routes/new@1 routes/old@2]"], "the old one is told its loss");
    peer.ack(B);
    host(&held, "routes/old", "3", &[]);
    assert_eq!(peer.poll(), none());
    host(&held, "routes/new", "2", &["routes/a.test"]);
    assert_eq!(peer.poll(), ["B[routes/new@2]"]);
}
