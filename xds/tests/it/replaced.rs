//! Resources that a client holds under another name, from a server that named them differently.

use std::time::Duration;

use imp_xds::{ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, remove, resource, resource_set};

/// How long removals wait for requests in flight.
const GRACE: Duration = Duration::from_secs(1);

/// Formerly "old/" stood before each name.
fn config() -> ServerConfig {
    let replaces = Some(|it: &imp_xds::Resource| Some(format!("old/{}", it.name())));
    ServerConfig::new(vec![TypeRules {
        replaces: replaces.map(|f| f as fn(&_) -> _),
        ..TypeRules::new(A, 0)
    }])
}

/// A client that reconnects with these.
fn client(set: &ResourceSet, held: &[&str]) -> Peer {
    held_by(set, &config(), held)
}

fn held_by(set: &ResourceSet, config: &ServerConfig, held: &[&str]) -> Peer {
    let mut peer = Peer::new(set, config);
    peer.request(imp_xds::wire::DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        initial_resource_versions: held
            .iter()
            .map(|name| ((*name).to_owned(), "0".to_owned()))
            .collect(),
        ..Default::default()
    });
    peer
}

#[test]
fn the_former_name_goes_in_the_message_that_brings_the_resource() {
    let set = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = client(&set, &["old/a", "old/gone", "b"]);
    assert_eq!(peer.poll(), ["A[-old/a a@1 b@1]"]);
    // What nothing replaces goes when all is sent, as always.
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert_eq!(peer.after(GRACE), ["A[-old/gone]"]);
}

#[test]
fn after_a_rejection_it_goes_with_the_resource_again() {
    let set = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = client(&set, &["old/a", "old/b"]);
    assert_eq!(peer.poll(), ["A[-old/a -old/b a@1 b@1]"]);
    assert_eq!(peer.nack(A, "one of them"), ["A[-old/a a@1]"]);
    assert_eq!(peer.ack(A), ["A[-old/b b@1]"]);
}

/// The same; a client subscribes to B because of something of A.
fn with_required() -> ServerConfig {
    let mut config = config();
    config.types.push(TypeRules::new(B, 0));
    config
}

fn dependant(name: &str, required: &str) -> imp_xds::Change {
    let mut change = imp_xds::Change::default();
    let required = [(B.into(), required.into())];
    change.upsert(A, resource(name, "1").with_required(required));
    change
}

#[test]
fn the_former_one_stays_while_the_resource_waits_for_what_it_requires() {
    let set = resource_set(&[(A, "holder", "1"), (B, "table", "1")]);
    set.apply(dependant("a", "table"));
    let mut peer = held_by(&set, &with_required(), &["old/a", "old/gone"]);
    assert_eq!(peer.poll(), ["A[holder@1]"]);
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert_eq!(peer.after(GRACE), ["A[-old/gone]"], "what nothing replaces");
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert!(peer.stream.is_idle(), "nothing is pending until the client asks for the table");
    assert_eq!(peer.subscribe(B, &["table"]), ["B[table@1]"]);
    assert_eq!(peer.ack(B), ["A[-old/a a@1]"]);
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert!(peer.stream.is_settled());
}

#[test]
fn it_stays_while_what_is_required_is_refused_and_goes_with_the_resource() {
    let set = resource_set(&[(B, "table", "1")]);
    set.apply(dependant("a", "table"));
    let mut peer = held_by(&set, &with_required(), &["old/a"]);
    assert_eq!(peer.subscribe(B, &["table"]), ["B[table@1]", "A[]"]);
    assert_eq!(peer.ack(A), Vec::<String>::new());
    assert_eq!(peer.nack(B, "no"), Vec::<String>::new());
    assert!(peer.stream.is_idle());
    remove(&set, A, "a");
    assert_eq!(peer.poll(), Vec::<String>::new());
    assert_eq!(peer.after(GRACE), ["A[-a -old/a]"]);
}

#[test]
fn it_stays_while_the_resource_is_refused() {
    let set = resource_set(&[(A, "a", "1")]);
    let mut peer = client(&set, &["old/a"]);
    assert_eq!(peer.poll(), ["A[-old/a a@1]"]);
    assert_eq!(peer.nack(A, "no"), Vec::<String>::new());
    assert_eq!(peer.after(GRACE), Vec::<String>::new());
    assert!(peer.stream.is_idle());
    put(&set, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[-old/a a@2]"]);
}
