//! Claims about statuses.

use imp_translate::xds::{CLUSTER, LISTENER, SCOPE};

use super::*;

fn key(type_url: &'static str, name: &str) -> Key {
    (type_url, name.into())
}

fn needs(revision: u64) -> Option<(u64, Needs)> {
    let version = format!("v{revision}");
    let need = |url, name: &str| (url, name.to_owned(), version.clone());
    Some((revision, vec![need(CLUSTER, "c"), need(SCOPE, "g/h")]))
}

fn node(id: &str, gateway: Option<&str>) -> Node {
    Node::new(id, gateway.map(str::to_owned), "1.40.0", 0)
}

/// Publish "p" of gateway "g", wanted at this revision.
fn want(tracker: &mut Tracker, revision: u64) {
    tracker.want("p", "g", revision);
    tracker.need("p", needs(revision));
}

fn take(tracker: &mut Tracker, stream: StreamId, revision: u64) {
    for key in [key(CLUSTER, "c"), key(SCOPE, "g/h")] {
        tracker.acked(stream, &key, Some(&format!("v{revision}")));
    }
}

/// revision, acked revision; acked, nacked, behind.
fn status(tracker: &mut Tracker) -> (u64, u64, [u32; 3]) {
    tracker.settle();
    let status = tracker.statuses().into_iter().find(|status| status.publish_id == "p").unwrap();
    let counts = [status.nodes_acked, status.nodes_nacked, status.nodes_behind];
    (status.revision, status.acked_revision, counts)
}

#[test]
fn a_revision_is_acked_when_every_envoy_of_the_gateway_has_all_of_it() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    assert_eq!(status(&mut tracker), (1, 0, [0, 0, 0]), "nobody is there to acknowledge it");
    tracker.open(1, node("a", None));
    tracker.open(2, node("b", Some("g")));
    tracker.open(3, node("c", Some("another")));
    take(&mut tracker, 1, 1);
    tracker.acked(2, &key(CLUSTER, "c"), Some("v1"));
    assert_eq!(status(&mut tracker), (1, 0, [1, 0, 1]), "one lacks the scope");
    take(&mut tracker, 2, 1);
    assert_eq!(status(&mut tracker), (1, 1, [2, 0, 0]));
    want(&mut tracker, 2);
    assert_eq!(status(&mut tracker), (2, 1, [0, 0, 2]), "old versions count for nothing");
    take(&mut tracker, 1, 2);
    tracker.close(2);
    assert_eq!(status(&mut tracker), (2, 2, [1, 0, 0]), "who left does not count");
    tracker.acked(1, &key(SCOPE, "g/h"), None);
    assert_eq!(status(&mut tracker), (2, 2, [0, 0, 1]), "it gave the scope up");
}

#[test]
fn a_revision_is_everywhere_when_nobody_runs_or_refuses_another() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    assert!(!tracker.is_everywhere("p"), "whoever comes may run anything");
    tracker.open(1, node("a", None));
    tracker.open(2, node("b", Some("g")));
    tracker.open(3, node("c", Some("another")));
    take(&mut tracker, 1, 1);
    assert!(!tracker.is_everywhere("p"));
    tracker.tick(Duration::from_secs(1_000));
    assert_eq!(status(&mut tracker).1, 1, "nobody waits for who is silent");
    assert!(!tracker.is_everywhere("p"), "what that one runs is not known");
    tracker.nacked(2, &key(SCOPE, "g/h"), "v1", "no");
    assert!(!tracker.is_everywhere("p"));
    take(&mut tracker, 2, 1);
    assert!(tracker.is_everywhere("p"));
    tracker.want("p", "g", 2);
    assert!(!tracker.is_everywhere("p"), "what is rendered is not what is wanted");
    assert!(!tracker.is_everywhere("unknown"));
}

#[test]
fn an_envoy_that_comes_takes_nothing_back() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.resume("p", 1);
    tracker.open(1, node("a", None));
    assert_eq!(status(&mut tracker), (1, 1, [0, 0, 1]));
}

#[test]
fn a_refusal_is_told_in_envoys_words_until_another_revision_is_wanted() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.open(1, node("a", None));
    take(&mut tracker, 1, 1);
    want(&mut tracker, 2);
    tracker.nacked(1, &key(SCOPE, "g/h"), "v2", "no good");
    tracker.refuse("p", 2, envoy_nack(SCOPE, "g/h", "no good"), &["a 1.40.0".to_owned()]);
    tracker.need("p", needs(1));
    take(&mut tracker, 1, 1);
    assert_eq!(status(&mut tracker), (2, 1, [0, 1, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert_eq!((error.code.as_str(), error.envoy_message.as_str()), ("envoy_nack", "no good"));
    tracker.close(1);
    assert_eq!(status(&mut tracker), (2, 1, [0, 0, 0]));
    tracker.open(2, node("a", None));
    assert_eq!(status(&mut tracker), (2, 1, [0, 1, 0]), "the same Envoy on another stream");
    want(&mut tracker, 3);
    assert_eq!(status(&mut tracker), (3, 1, [0, 0, 1]));
    assert_eq!(tracker.statuses().pop().unwrap().error, None);
}

#[test]
fn a_first_revision_that_is_refused_serves_nowhere() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.open(1, node("a", None));
    tracker.refuse("p", 1, envoy_nack(SCOPE, "g/h", "no good"), &["a 1.40.0".to_owned()]);
    tracker.need("p", None);
    assert_eq!(status(&mut tracker), (1, 0, [0, 1, 0]));
}

#[test]
fn a_listener_that_envoy_refuses_fails_whoever_needs_it() {
    let mut tracker = Tracker::default();
    tracker.want("p", "g", 1);
    tracker.need("p", Some((1, vec![(LISTENER, "gw-g/http".into(), "v1".into())])));
    tracker.open(1, node("a", None));
    tracker.nacked(1, &key(LISTENER, "gw-g/http"), "v1", "cannot bind");
    assert_eq!(status(&mut tracker), (1, 0, [0, 1, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert!(error.hint.contains("port"), "{error:?}");
}

#[test]
fn a_revision_that_the_agent_rejects_leaves_the_one_before_alone() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.open(1, node("a", None));
    take(&mut tracker, 1, 1);
    tracker.reject("p", Some(2), agent_rejected("base_path: missing"));
    assert_eq!(status(&mut tracker), (2, 1, [1, 0, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert!(error.hint.contains("base_path: missing"), "{error:?}");
    want(&mut tracker, 3);
    assert_eq!(status(&mut tracker).0, 3);
    assert_eq!(tracker.statuses().pop().unwrap().error, None);
}

#[test]
fn only_what_changed_is_told_and_only_once() {
    let mut tracker = Tracker::default();
    for id in ["p", "q"] {
        tracker.want(id, "g", 1);
    }
    tracker.need("p", needs(1));
    tracker.settle();
    assert_eq!(tracker.take_changed(10).len(), 2);
    tracker.open(1, node("a", None));
    tracker.settle();
    assert_eq!(tracker.take_changed(1).len(), 1, "no more than asked for");
    assert_eq!(tracker.take_changed(10).len(), 1);
    take(&mut tracker, 1, 1);
    assert_eq!(tracker.settle(), [("p".to_owned(), 1)]);
    let told: Vec<_> = tracker.take_changed(10).into_iter().map(|s| s.publish_id).collect();
    assert_eq!(told, ["p"]);
    // There and back again before anybody looked.
    tracker.open(2, node("b", None));
    tracker.close(2);
    tracker.settle();
    assert!(!tracker.has_changed());
    tracker.remove("p");
    tracker.all_changed();
    assert_eq!(tracker.take_changed(10).len(), 1);
    assert!(tracker.users_of(&key(SCOPE, "g/h")).next().is_none(), "nothing is left in the index");
}

#[test]
fn who_says_nothing_is_behind_and_holds_nothing_up_after_a_while() {
    let mut tracker = Tracker::default();
    let at = |seconds| std::time::Duration::from_secs(seconds);
    tracker.tick(at(100));
    tracker.open(1, node("a", None));
    want(&mut tracker, 1);
    take(&mut tracker, 1, 1);
    assert_eq!(status(&mut tracker), (1, 1, [1, 0, 0]));
    tracker.open(2, node("mute", None));
    want(&mut tracker, 2);
    take(&mut tracker, 1, 2);
    let silent = |tracker: &Tracker| tracker.statuses().pop().unwrap().nodes_silent;
    tracker.tick(at(114));
    assert_eq!((status(&mut tracker), silent(&tracker)), ((2, 1, [1, 0, 1]), 0));
    tracker.tick(at(115));
    assert_eq!((status(&mut tracker), silent(&tracker)), ((2, 2, [1, 0, 1]), 1));
    // A busy client is waited for longer, but within a bound.
    tracker.open(3, node("busy", None));
    want(&mut tracker, 3);
    take(&mut tracker, 1, 3);
    take(&mut tracker, 2, 3);
    for second in 116..175 {
        tracker.tick(at(second));
        tracker.acked(3, &key(SCOPE, &format!("g/h{second}")), Some("v"));
        assert_eq!(status(&mut tracker), (3, 2, [2, 0, 1]), "{second}");
    }
    tracker.tick(at(175));
    assert_eq!((status(&mut tracker), silent(&tracker)), ((3, 3, [2, 0, 1]), 1));
}

#[test]
fn what_one_refuses_and_another_takes_is_acknowledged_but_for_the_one() {
    let mut tracker = Tracker::default();
    tracker.open(1, node("a", None));
    tracker.open(2, node("b", None));
    want(&mut tracker, 1);
    take(&mut tracker, 1, 1);
    tracker.nacked(2, &key(SCOPE, "g/h"), "v1", "no good");
    assert_eq!(status(&mut tracker), (1, 1, [1, 1, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert_eq!(error.envoy_message, "no good");
    let votes = tracker.votes("", &key(SCOPE, "g/h"), "v1");
    assert!(votes.accepted && !votes.missing);
    assert_eq!(votes.refused_by, ["b 1.40.0"]);
    tracker.close(2);
    assert_eq!(status(&mut tracker), (1, 1, [1, 0, 0]), "its verdict left with it");
}

#[test]
fn a_refusal_stands_for_those_that_said_it() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.open(1, node("a", None));
    tracker.refuse("p", 1, envoy_nack(SCOPE, "g/h", "no good"), &["a 1.40.0".to_owned()]);
    assert!(tracker.unheard_by(1).is_empty() && tracker.refused_by_nobody().is_empty());
    tracker.open(2, node("b", Some("another")));
    assert!(tracker.unheard_by(2).is_empty(), "it does not serve the gateway");
    tracker.open(3, node("b", Some("g")));
    assert_eq!(tracker.unheard_by(3), ["p"]);
    tracker.close(1);
    assert_eq!(tracker.refused_by_nobody(), ["p"]);
    tracker.close(3);
    assert!(tracker.refused_by_nobody().is_empty(), "nobody is there to judge it");
    tracker.open(4, Node::new("a", None, "1.41.0", 0));
    assert_eq!(tracker.unheard_by(4), ["p"], "another version may think otherwise");
    tracker.withdraw("p");
    assert!(tracker.unheard_by(4).is_empty());
}
