//! Subscriptions, answers and reconnects, on the pure state machine.

use std::collections::HashMap;
use std::time::Duration;

use imp_xds::stream::Stream;
use imp_xds::wire::{DeltaDiscoveryRequest, Status};
use imp_xds::{Batching, Change, ResourceSet, TypeRules};
use tonic::Code;

use crate::peer::{A, B, Peer, config, put, remove, resource_set};

fn none() -> Vec<String> {
    Vec::new()
}

fn initial(type_url: &str, names: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let versions: HashMap<_, _> =
        held.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        initial_resource_versions: versions,
        ..Default::default()
    }
}

#[test]
fn r4_an_aggregated_stream_needs_a_type_url() {
    let mut stream = Stream::new(ResourceSet::new(), &config());
    let refused = stream.request(DeltaDiscoveryRequest::default()).expect_err("no type");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let long = DeltaDiscoveryRequest { type_url: "x".repeat(5_000), ..Default::default() };
    assert_eq!(stream.request(long).expect_err("nonsense").code(), Code::InvalidArgument);
}

#[test]
fn r5_types_know_nothing_of_each_other() {
    let mut peer = Peer::new(&resource_set(&[(A, "x", "1"), (B, "x", "9")]), &config());
    assert_eq!(peer.subscribe(A, &["x"]), ["A[x@1]"]);
    assert_eq!(peer.subscribe(B, &["x"]), ["B[x@9]"]);
    assert_eq!(peer.nack(A, "no"), none());
    assert_eq!(peer.ack(B), none());
    let counts: Vec<_> = peer.stream.types().iter().map(|t| t.counts().nacked).collect();
    assert_eq!(counts, [1, 0]);
}

#[test]
fn r6_an_unknown_type_is_answered_and_holds_nothing() {
    let mut peer = Peer::new(&resource_set(&[(A, "x", "1")]), &config());
    assert_eq!(peer.subscribe("type.test/Unknown", &[]), ["Unknown[]"]);
    assert_eq!(peer.ack("type.test/Unknown"), none());
    assert_eq!(peer.subscribe("type.test/Other", &["n"]), ["Other[-n]"]);
    assert_eq!(peer.subscribe(A, &[]), ["A[x@1]"]);
}

#[test]
fn unknown_types_are_bounded() {
    let mut peer = Peer::new(&resource_set(&[]), &config());
    let refused = (0..100).find_map(|n| {
        let request =
            DeltaDiscoveryRequest { type_url: format!("type.test/{n}"), ..Default::default() };
        peer.stream.request(request).err()
    });
    assert_eq!(refused.expect("a limit").code(), Code::ResourceExhausted);
}

#[test]
fn names_of_one_stream_are_bounded() {
    let mut limited = config();
    limited.max_subscription_bytes = 10_000;
    let mut peer = Peer::new(&resource_set(&[]), &limited);
    let mut subscribe = |n: usize| {
        peer.stream.request(initial(A, &[&format!("name {n} of a client that asks for ever")], &[]))
    };
    let refused = (0..1_000).find_map(|n| subscribe(n).err());
    assert_eq!(refused.expect("a limit").code(), Code::ResourceExhausted);
}

#[test]
fn r10_r39_the_first_request_without_names_gets_everything_and_an_answer_even_if_it_is_nothing() {
    let mut peer = Peer::new(&resource_set(&[(A, "x", "1"), (A, "y", "1")]), &config());
    assert_eq!(peer.subscribe(A, &[]), ["A[x@1 y@1]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.subscribe(B, &[]), ["B[]"]);
}

#[test]
fn r10_r16_the_four_steps_of_the_protocols_example() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(A, &[]), ["A[a@1 b@1]"]);
    peer.ack(A);
    // A name in addition to the implicit wildcard, which stays.
    assert_eq!(peer.subscribe(A, &["a"]), ["A[a@1]"]);
    peer.ack(A);
    put(&held, &[(A, "b", "2")]);
    assert_eq!(peer.poll(), ["A[b@2]"]);
    peer.ack(A);
    // Without the wildcard only the name is left.
    assert_eq!(peer.change(A, &[], &["*"]), none());
    put(&held, &[(A, "b", "3"), (A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"]);
    peer.ack(A);
    // Nothing is left, and no names means nothing now.
    assert_eq!(peer.change(A, &[], &["a"]), none());
    put(&held, &[(A, "a", "3")]);
    assert_eq!(peer.poll(), none());
}

#[test]
fn r11_a_star_in_both_lists_is_a_client_that_asks_on_demand() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    assert_eq!(peer.change(A, &["*"], &["*"]), none());
    assert_eq!(peer.subscribe(A, &["a"]), ["A[a@1]"]);
}

#[test]
fn r12_legacy_wildcard_is_off_where_the_rules_say_so() {
    let mut rules = TypeRules::new(A, 0);
    rules.legacy_wildcard = false;
    let config = imp_xds::ServerConfig::new(vec![rules]);
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config);
    assert_eq!(peer.subscribe(A, &[]), ["A[]"], "nothing, and said so");
    peer.ack(A);
    assert_eq!(peer.subscribe(A, &["*"]), ["A[a@1]"]);
}

#[test]
fn r13_a_name_that_is_subscribed_again_is_sent_again() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    assert_eq!(peer.subscribe(A, &["a"]), ["A[a@1]"]);
    peer.ack(A);
    assert_eq!(peer.subscribe(A, &["a"]), ["A[a@1]"]);
}

#[test]
fn r14_r71_a_missing_name_is_answered_at_once_and_sent_when_it_appears() {
    let held = resource_set(&[(A, "other", "1")]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(A, &["other", "late"]), ["A[-late other@1]"]);
    peer.ack(A);
    put(&held, &[(A, "late", "1")]);
    assert_eq!(peer.poll(), ["A[late@1]"]);
}

#[test]
fn r15_unsubscribing_is_silent_and_a_phantom_is_nothing() {
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &["a"]);
    peer.ack(A);
    assert_eq!(peer.change(A, &[], &["a", "phantom"]), none());
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), none());
}

#[test]
fn r16_a_name_that_is_unsubscribed_under_a_wildcard_is_answered() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    peer.subscribe(A, &["*", "a", "gone"]);
    peer.settle();
    assert_eq!(peer.change(A, &[], &["a", "gone"]), ["A[-gone a@1]"]);
}

#[test]
fn r17_removed_and_back_again_is_sent_again() {
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    peer.settle();
    remove(&held, A, "a");
    peer.settle();
    assert!(peer.held.is_empty());
    put(&held, &[(A, "a", "1")]);
    assert_eq!(peer.poll(), ["A[a@1]"]);
}

#[test]
fn r20_a_collection_is_subscribed_by_a_glob() {
    let (one, two, all) = ("xdstp://x/t/c/one", "xdstp://x/t/c/two", "xdstp://x/t/c/*");
    let held = resource_set(&[(A, one, "1"), (A, "xdstp://x/t/d/other", "1")]);
    let mut peer = Peer::new(&held, &config());
    let empty = peer.subscribe(A, &["xdstp://x/t/none/*"]);
    assert_eq!(empty, ["A[-xdstp://x/t/none/*]"], "R14");
    peer.ack(A);
    assert_eq!(peer.subscribe(A, &[all]), [format!("A[{one}@1]")]);
    peer.ack(A);
    put(&held, &[(A, two, "1"), (A, "xdstp://x/t/c/deeper/three", "1")]);
    assert_eq!(peer.poll(), [format!("A[{two}@1]")]);
    peer.ack(A);
    remove(&held, A, one);
    peer.settle();
    assert_eq!(peer.held.keys().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), [two]);
    assert_eq!(peer.change(A, &[], &[all]), none());
    put(&held, &[(A, two, "2")]);
    assert_eq!(peer.poll(), none());
}

#[test]
fn r30_nonces_are_unique_on_the_stream() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1"), (B, "b", "1")]), &config());
    peer.subscribe(A, &["a"]);
    peer.subscribe(B, &["b"]);
    let nonces: Vec<_> = peer.open.iter().map(|open| open.nonce.clone()).collect();
    assert_eq!(nonces.len(), 2);
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn r31_a_stale_nonce_takes_nothing_from_the_subscriptions() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1"), (A, "b", "1")]), &config());
    peer.subscribe(A, &["a"]);
    peer.ack(A);
    let mut request = initial(A, &["b"], &[]);
    request.response_nonce = "of another age".to_owned();
    request.error_detail = Some(Status { code: 13, message: "stale".to_owned() });
    assert!(peer.request(request).answer.is_none());
    assert_eq!(peer.poll(), ["A[b@1]"]);
}

#[test]
fn r33_what_was_refused_is_not_sent_again_until_it_changes() {
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    assert_eq!(peer.nack(A, "bad"), none());
    assert_eq!(peer.after(Duration::from_secs(3600)), none());
    put(&held, &[(A, "b", "1")]);
    assert_eq!(peer.poll(), ["A[b@1]"]);
    peer.ack(A);
    // R36: the repaired one is sent.
    put(&held, &[(A, "a", "2")]);
    assert_eq!(peer.poll(), ["A[a@2]"]);
}

#[test]
fn r33_what_was_refused_is_sent_once_more_when_the_program_says_that_it_may_pass() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &["a", "b"]);
    peer.ack(A);
    let a = imp_xds::TypeUrl::from(A);
    assert!(!peer.stream.retry(&a, "a"), "it was not refused");
    put(&held, &[(A, "a", "2")]);
    peer.poll();
    peer.nack(A, "the port is taken");
    for attempt in 1..4 {
        assert_eq!(peer.poll(), none());
        assert!(peer.stream.retry(&a, "a"));
        assert_eq!(peer.poll(), ["A[a@2]"]);
        let sent = peer.open.first().and_then(|open| open.upserts().next());
        assert_eq!(sent.map(|(_, attempts)| attempts), Some(attempt), "in other bytes each time");
        assert!(!peer.stream.retry(&a, "a"), "it is on its way");
        peer.nack(A, "still taken");
    }
    assert!(peer.stream.retry(&a, "a"));
    peer.poll();
    peer.ack(A);
    assert_eq!(peer.held.get(&(A.to_owned(), "a".to_owned())).map(String::as_str), Some("2"));
    remove(&held, A, "a");
    assert!(!peer.stream.retry(&a, "a"), "it is gone");
}

#[test]
fn everything_that_is_wanted_is_sent_again_when_the_program_says_that_it_was_lost() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1"), (A, "c", "1")]);
    let a = imp_xds::TypeUrl::from(A);
    let mut everything = Peer::new(&held, &config());
    everything.subscribe(A, &[]);
    everything.settle();
    everything.stream.resend(&a);
    assert_eq!(everything.poll(), ["A[a@1 b@1 c@1]"]);
    everything.settle();
    assert_eq!(everything.poll(), none());
    let mut named = Peer::new(&held, &config());
    named.subscribe(A, &["a", "c"]);
    named.settle();
    named.stream.resend(&a);
    assert_eq!(named.poll(), ["A[a@1 c@1]"]);
}

#[test]
fn r33_a_client_that_asks_again_gets_it_again() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    peer.subscribe(A, &["a"]);
    assert_eq!(peer.nack(A, "bad"), none());
    assert_eq!(peer.subscribe(A, &["a"]), ["A[a@1]"]);
}

#[test]
fn r34_a_refused_batch_is_taken_apart_until_the_culprit_is_alone() {
    let names: Vec<String> = (0..64).map(|n| format!("r{n:02}")).collect();
    let all: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    let mut peer = Peer::new(&resource_set(&all), &config());
    peer.subscribe(A, &[]);
    let mut responses = 0;
    while let Some(open) = peer.open.first() {
        responses += 1;
        if open.upserts().any(|(r, _)| &**r.name() == "r37") {
            peer.nack(A, "one of them is bad");
        } else {
            peer.ack(A);
        }
    }
    assert_eq!(peer.held.len(), 63);
    assert!(responses <= 13, "{responses} responses to find one of 64");
    let refused: Vec<_> = peer.stream.types()[0].refused().map(|(n, _)| n.to_string()).collect();
    assert_eq!(refused, ["r37"]);
}

#[test]
fn r34_a_client_that_refuses_everything_is_left_alone_in_the_end() {
    let names: Vec<String> = (0..32).map(|n| format!("r{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    let mut peer = Peer::new(&resource_set(&all), &config());
    peer.subscribe(A, &[]);
    let mut responses = 0;
    while !peer.open.is_empty() {
        responses += 1;
        peer.nack(A, "no");
    }
    assert_eq!(responses, 63, "each group once, down to one resource");
    assert_eq!(peer.after(Duration::from_secs(3600)), none());
}

#[test]
fn r34_a_refused_batch_with_removals_loses_neither() {
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut peer = Peer::new(&held, &config());
    assert_eq!(peer.subscribe(A, &["a", "b", "gone"]), ["A[-gone a@1 b@1]"]);
    assert_eq!(peer.nack(A, "bad: b"), ["A[a@1]"]);
    assert_eq!(peer.ack(A), ["A[b@1]"]);
    assert_eq!(peer.nack(A, "bad"), none());
    assert_eq!(peer.after(Duration::from_secs(2)), ["A[-gone]"]);
    assert_eq!(peer.nack(A, "that too"), none());
    assert_eq!(peer.after(Duration::from_secs(3600)), none());
}

#[test]
fn r36_a_repair_does_not_wait_for_the_search_of_the_culprit() {
    let names: Vec<String> = (0..16).map(|n| format!("r{n:02}")).collect();
    let all: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    let held = resource_set(&all);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    peer.nack(A, "bad");
    put(&held, &[(A, "r00", "2")]);
    let next: Vec<_> = (0..2).flat_map(|_| peer.nack(A, "bad")).collect();
    assert!(next.contains(&"A[r00@2]".to_owned()), "{next:?}");
}

#[test]
fn single_resources_go_alone_until_they_are_proven() {
    let mut rules = TypeRules::new(A, 0);
    rules.batching = Batching::Single;
    let config = imp_xds::ServerConfig::new(vec![rules]);
    let held = resource_set(&[(A, "a", "1"), (A, "b", "1")]);
    let mut first = Peer::new(&held, &config);
    assert_eq!(first.subscribe(A, &[]), ["A[a@1]"]);
    assert_eq!(first.ack(A), ["A[b@1]"]);
    first.ack(A);
    assert_eq!(Peer::new(&held, &config).subscribe(A, &[]), ["A[a@1 b@1]"]);
}

#[test]
fn r37_r40_a_reconnecting_wildcard_gets_the_difference_and_held_versions_are_told() {
    let held = resource_set(&[(A, "same", "1"), (A, "changed", "2"), (A, "new", "1")]);
    let mut peer = Peer::new(&held, &config());
    let request = initial(A, &[], &[("same", "1"), ("changed", "1"), ("gone", "1")]);
    let told = peer.request(request).held;
    assert_eq!(told.iter().map(|r| &**r.name()).collect::<Vec<_>>(), ["same"]);
    assert_eq!(peer.poll(), ["A[changed@2 new@1]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(Duration::from_secs(2)), ["A[-gone]"]);
}

#[test]
fn r37_a_client_in_sync_costs_one_empty_response() {
    let names: Vec<String> = (0..1_000).map(|n| format!("r{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (A, name.as_str(), "1")).collect();
    let versions: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let mut peer = Peer::new(&resource_set(&all), &config());
    assert_eq!(peer.request(initial(A, &[], &versions)).held.len(), 1_000);
    assert_eq!(peer.poll(), ["A[]"]);
    peer.ack(A);
    assert!(peer.stream.is_settled());
}

#[test]
fn r37_only_the_first_request_of_a_type_speaks_of_earlier_versions() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    assert_eq!(peer.subscribe(A, &["x"]), ["A[-x]"]);
    peer.ack(A);
    assert!(peer.request(initial(A, &["*"], &[("a", "1")])).held.is_empty());
    assert_eq!(peer.poll(), ["A[a@1]"]);
}

#[test]
fn r38_a_name_is_sent_after_a_reconnect_even_if_the_version_is_equal() {
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config());
    assert!(peer.request(initial(A, &["a"], &[("a", "1")])).held.is_empty());
    assert_eq!(peer.poll(), ["A[a@1]"]);
}

#[test]
fn r72_a_type_that_is_never_removed_is_never_removed() {
    let mut rules = TypeRules::new(A, 0);
    rules.never_remove = true;
    let config = imp_xds::ServerConfig::new(vec![rules]);
    let held = resource_set(&[(A, "a", "1")]);
    let mut peer = Peer::new(&held, &config);
    assert_eq!(peer.subscribe(A, &["a", "missing"]), ["A[a@1]"]);
    peer.ack(A);
    remove(&held, A, "a");
    assert_eq!(peer.after(Duration::from_secs(60)), none());
    put(&held, &[(A, "missing", "1")]);
    assert_eq!(peer.poll(), ["A[missing@1]"]);
}

#[test]
fn r72_what_is_missing_holds_up_nothing_of_a_type_that_is_sent_one_by_one() {
    let mut rules = TypeRules::new(A, 0);
    (rules.never_remove, rules.batching) = (true, Batching::Single);
    let config = imp_xds::ServerConfig::new(vec![rules]);
    let mut peer = Peer::new(&resource_set(&[(A, "a", "1")]), &config);
    assert_eq!(peer.subscribe(A, &["a", "missing"]), ["A[a@1]"]);
}

#[test]
fn r80_r81_a_client_that_does_not_answer_gets_the_newest_state_when_it_does() {
    let held = resource_set(&[(A, "a", "0")]);
    let mut peer = Peer::new(&held, &config());
    peer.subscribe(A, &[]);
    for version in 1..100 {
        put(&held, &[(A, "a", &version.to_string()), (A, "b", &version.to_string())]);
        assert_eq!(peer.poll(), none());
    }
    remove(&held, A, "b");
    assert_eq!(peer.ack(A), ["A[a@99]"]);
}

fn retain(set: &ResourceSet, name: &str) {
    let mut change = Change::default();
    change.retain(A, name);
    set.apply(change);
}

#[test]
fn r41_what_exists_without_content_is_neither_sent_nor_removed() {
    let set = resource_set(&[(A, "a", "1")]);
    retain(&set, "dark");
    let mut peer = Peer::new(&set, &config());
    let back = initial(A, &[], &[("a", "1"), ("dark", "5"), ("gone", "1")]);
    peer.request(back);
    assert_eq!(peer.poll(), ["A[]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.after(Duration::from_secs(3600)), ["A[-gone]"]);
    assert_eq!(peer.ack(A), none());
    // When content arrives it is sent, and the resource is like any other.
    put(&set, &[(A, "dark", "6")]);
    assert_eq!(peer.poll(), ["A[dark@6]"]);
    assert_eq!(peer.ack(A), none());
    retain(&set, "dark");
    assert_eq!(peer.poll(), none(), "what is there stays");
    remove(&set, A, "dark");
    assert_eq!(peer.after(Duration::from_secs(2)), none(), "the grace of removals");
    assert_eq!(peer.after(Duration::from_secs(3600)), ["A[-dark]"]);
}

#[test]
fn r41_what_exists_without_content_is_removed_when_it_is_gone() {
    let set = resource_set(&[]);
    retain(&set, "dark");
    let mut peer = Peer::new(&set, &config());
    peer.request(initial(A, &["*"], &[("dark", "5")]));
    assert_eq!(peer.poll(), ["A[]"]);
    assert_eq!(peer.ack(A), none());
    assert_eq!(peer.subscribe(A, &["dark"]), none(), "nothing can be said of it");
    remove(&set, A, "dark");
    assert_eq!(peer.after(Duration::from_secs(2)), none(), "the grace of removals");
    assert_eq!(peer.after(Duration::from_secs(3600)), ["A[-dark]"]);
}
