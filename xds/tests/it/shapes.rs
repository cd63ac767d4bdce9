//! What refers to others does not wait for answers that are known beforehand ([`TypeRules::shape`]).

use imp_xds::{Resource, ResourceSet, ServerConfig, TypeRules};

use crate::peer::{A, B, Peer, put, remove, resource_set};

/// The version up to a dash; none for those that begin with `odd`.
fn shape(resource: &Resource) -> Option<u64> {
    let shape = resource.version().split('-').next()?;
    (shape != "odd").then_some(shape.len() as u64)
}

fn peer(set: &ResourceSet) -> Peer {
    let of_shapes = TypeRules { shape: Some(shape), ..TypeRules::new(A, 0) };
    let mut peer = Peer::new(set, &ServerConfig::new(vec![TypeRules::new(B, 1), of_shapes]));
    peer.subscribe(A, &[]);
    peer.subscribe(B, &[]);
    peer.settle();
    peer
}

#[test]
fn r61_a_shape_that_the_client_acknowledged_is_not_waited_for() {
    let held = resource_set(&[(A, "a", "x-1")]);
    let mut peer = peer(&held);
    put(&held, &[(A, "b", "x-2"), (B, "b", "1")]);
    assert_eq!(peer.poll(), ["A[b@x-2]", "B[b@1]"]);
}

#[test]
fn r61_a_new_shape_is_waited_for_once() {
    let held = resource_set(&[(A, "a", "x-1")]);
    let mut peer = peer(&held);
    put(&held, &[(A, "b", "xx-1"), (B, "b", "1")]);
    assert_eq!(peer.poll(), ["A[b@xx-1]"]);
    assert_eq!(peer.ack(A), ["B[b@1]"]);
    peer.settle();
    put(&held, &[(A, "c", "xx-2"), (B, "c", "1")]);
    assert_eq!(peer.poll(), ["A[c@xx-2]", "B[c@1]"]);
}

#[test]
fn r61_one_without_a_known_shape_is_waited_for_with_all_beside_it() {
    let held = resource_set(&[(A, "a", "x-1")]);
    let mut peer = peer(&held);
    for odd in ["odd-1", "odd-2", "xxx-1"] {
        put(&held, &[(A, "b", "x-2"), (A, "c", odd), (B, "b", odd)]);
        assert_eq!(peer.poll(), [format!("A[b@x-2 c@{odd}]")]);
        assert_eq!(peer.ack(A), [format!("B[b@{odd}]")]);
        peer.settle();
        put(&held, &[(A, "b", "x-3")]);
        peer.settle();
    }
}

#[test]
fn r61_what_does_not_fit_into_the_response_is_waited_for() {
    let held = resource_set(&[(A, "a", "x-1")]);
    let mut peer = peer(&held);
    put(&held, &[(A, "b", "x-2")]);
    assert_eq!(peer.poll(), ["A[b@x-2]"]);
    put(&held, &[(A, "c", "x-2"), (B, "c", "1")]);
    assert_eq!(peer.poll(), [""; 0], "A has an answer to wait for before it sends c");
    assert_eq!(peer.ack(A), ["A[c@x-2]", "B[c@1]"]);
}

#[test]
fn r61_a_shape_that_was_refused_is_waited_for_again() {
    let held = resource_set(&[(A, "a", "x-1")]);
    let mut peer = peer(&held);
    put(&held, &[(A, "b", "x-2")]);
    peer.poll();
    peer.nack(A, "no");
    put(&held, &[(A, "c", "x-3"), (B, "c", "1")]);
    assert_eq!(peer.poll(), ["A[c@x-3]"]);
    assert_eq!(peer.ack(A), ["B[c@1]"]);
}

#[test]
fn r61_removals_wait_for_the_answer_all_the_same() {
    let held = resource_set(&[(A, "a", "x-1"), (A, "old", "x-1"), (B, "b", "old")]);
    let mut peer = peer(&held);
    put(&held, &[(A, "new", "x-2"), (B, "b", "new")]);
    remove(&held, A, "old");
    assert_eq!(peer.poll(), ["A[new@x-2]", "B[b@new]"]);
    assert_eq!(peer.ack(A), [""; 0], "B may still refer to it");
}
