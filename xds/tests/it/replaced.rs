//! Resources that a client holds under another name, from a server that named them differently.

use imp_xds::{ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, Peer, resource_set};

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
    let mut peer = Peer::new(set, &config());
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
    assert_eq!(peer.after(std::time::Duration::from_secs(1)), ["A[-old/gone]"]);
}

#[test]
fn after_a_rejection_it_goes_with_the_resource_again() {
    let set = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = client(&set, &["old/a", "old/b"]);
    assert_eq!(peer.poll(), ["A[-old/a -old/b a@1 b@1]"]);
    assert_eq!(peer.nack(A, "one of them"), ["A[-old/a a@1]"]);
    assert_eq!(peer.ack(A), ["A[-old/b b@1]"]);
}
