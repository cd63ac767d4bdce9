//! What answers about resources mean for publishes.

use imp_translate::xds::SCOPE;

use super::super::tracker::Target;
use super::*;

fn key(type_url: &'static str, name: &str) -> Key {
    (type_url, name.into())
}

fn needs(revision: u64) -> Option<(u64, Needs)> {
    let version: Arc<str> = format!("v{revision}").into();
    let need = |url, name: &str| (url, name.into(), version.clone());
    Some((revision, vec![need(CLUSTER, "c"), need(SCOPE, "g/h")]))
}

/// The outcomes of the only publish.
fn said(acks: &mut Acknowledgements) -> Vec<(u64, StreamId, Verdict)> {
    let outcomes = acks.outcomes(|_, key| format!("the {}", key.1)).into_iter();
    outcomes.map(|outcome| (outcome.revision, outcome.target, outcome.verdict)).collect()
}

#[test]
fn an_envoy_has_a_revision_when_it_has_all_of_it_in_the_version_that_is_rendered() {
    let mut acks = Acknowledgements::default();
    acks.need(&"p".into(), needs(1));
    assert!(acks.open(1, false));
    assert_eq!(said(&mut acks), [], "nobody has said anything");
    acks.acked(1, &key(CLUSTER, "c"), Some("v1"));
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Gone)]);
    acks.acked(1, &key(SCOPE, "g/another"), Some("v1"));
    assert_eq!(said(&mut acks), [], "it does not need that");
    acks.acked(1, &key(SCOPE, "g/h"), Some("v1"));
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Accepted)]);
    acks.need(&"p".into(), needs(2));
    assert_eq!(said(&mut acks), [(2, 1, Verdict::Gone)]);
    acks.acked(1, &key(CLUSTER, "c"), Some("v2"));
    acks.acked(1, &key(SCOPE, "g/h"), Some("v2"));
    assert_eq!(said(&mut acks), [(2, 1, Verdict::Accepted)], "once for both");
    acks.acked(1, &key(SCOPE, "g/h"), None);
    assert_eq!(said(&mut acks), [(2, 1, Verdict::Gone)], "it gave the scope up");
}

#[test]
fn somebody_elses_envoy_needs_the_hosts_to_lead_to_it_and_no_cluster_before_a_call() {
    let mut acks = Acknowledgements::default();
    acks.open(1, true);
    acks.open(2, false);
    let mut needed = needs(1);
    needed.as_mut().unwrap().1.push((LEAD, "host".into(), "1".into()));
    acks.need(&"p".into(), needed);
    said(&mut acks);
    acks.acked(1, &key(SCOPE, "g/h"), Some("v1"));
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Gone)], "no call comes there");
    acks.acked(1, &key(LEAD, "host"), Some("1"));
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Accepted)]);
    acks.nacked(1, &key(CLUSTER, "c"), "v1", "no");
    assert!(matches!(said(&mut acks).pop(), Some((1, 1, Verdict::Refused(_)))));
    acks.forget(1, SCOPE);
    acks.acked(1, &key(CLUSTER, "c"), None);
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Gone)], "its stream of scopes began again");
    acks.acked(2, &key(SCOPE, "g/h"), Some("v1"));
    assert_eq!(said(&mut acks), [(1, 2, Verdict::Gone)], "one of ours needs the cluster");
    acks.acked(2, &key(CLUSTER, "c"), Some("v1"));
    assert_eq!(said(&mut acks), [(1, 2, Verdict::Accepted)], "and no host");
}

#[test]
fn a_refused_resource_refuses_whatever_needs_it_in_envoys_words() {
    let mut acks = Acknowledgements::default();
    assert!(acks.open(1, false));
    acks.need(&"p".into(), Some((1, vec![(LISTENER, "port-80".into(), "v1".into())])));
    acks.nacked(1, &key(LISTENER, "port-80"), "v0", "of a former version");
    assert_eq!(said(&mut acks), [(1, 1, Verdict::Gone)]);
    acks.nacked(1, &key(LISTENER, "port-80"), "v1", "cannot bind");
    let Some((1, 1, Verdict::Refused(error))) = said(&mut acks).pop() else { panic!("refused") };
    assert_eq!((error.code.as_str(), error.envoy_message.as_str()), ("envoy_nack", "cannot bind"));
    assert!(error.hint.contains("port"), "{error:?}");
    assert!(error.resource.ends_with("the port-80"), "as people know it: {error:?}");
}

#[test]
fn what_is_unrendered_or_gone_leaves_nothing_behind() {
    let mut acks = Acknowledgements::default();
    assert!(acks.open(1, false));
    acks.need(&"p".into(), needs(1));
    acks.acked(1, &key(SCOPE, "g/h"), Some("v1"));
    acks.need(&"p".into(), None);
    assert_eq!(said(&mut acks), []);
    assert!(acks.users_of(&key(SCOPE, "g/h")).next().is_none(), "nothing is left in the index");
    acks.need(&"p".into(), needs(1));
    acks.close(1);
    acks.acked(1, &key(SCOPE, "g/h"), Some("v1"));
    assert_eq!(said(&mut acks), [], "who left says nothing");
    assert!(acks.said.is_empty());
}

#[test]
fn an_answer_concerns_no_more_publishes_than_need_the_resource() {
    let mut acks = Acknowledgements::default();
    assert!(acks.open(1, false));
    for number in 0..1_000 {
        let own = (SCOPE, format!("g/h{number}").into(), "v1".into());
        acks.need(&format!("p{number}").into(), Some((1, vec![own])));
    }
    acks.outcomes(|_, key| format!("the {}", key.1));
    acks.acked(1, &key(SCOPE, "g/h7"), Some("v1"));
    assert_eq!(acks.stale.len(), 1);
    let outcomes = acks.outcomes(|_, key| format!("the {}", key.1));
    assert_eq!(outcomes.len(), 1);
    assert_eq!((&*outcomes[0].publish, &outcomes[0].verdict), ("p7", &Verdict::Accepted));
}

#[test]
fn votes_are_of_the_envoys_that_may_see_a_resource() {
    let (mut acks, mut tracker) = (Acknowledgements::default(), Tracker::default());
    tracker.want("p", "g", 1);
    acks.need(&"p".into(), needs(1));
    for (stream, gateway) in [(1, None), (2, None), (3, Some("another"))] {
        let gateway = gateway.map(str::to_owned);
        tracker.open(stream, Target::new(&format!("e{stream}"), gateway, "1.40.0", 0));
        acks.open(stream, false);
    }
    acks.nacked(2, &key(SCOPE, "g/h"), "v1", "no good");
    let votes = acks.votes(&tracker, "", &key(SCOPE, "g/h"), "v1");
    assert!(votes.missing && !votes.accepted, "one has not answered");
    acks.acked(1, &key(SCOPE, "g/h"), Some("v1"));
    let votes = acks.votes(&tracker, "", &key(SCOPE, "g/h"), "v1");
    assert!(votes.accepted && !votes.missing, "the third is of another gateway");
    assert_eq!(votes.refused_by, ["e2 1.40.0"]);
    assert_eq!(acks.refusers_of(&key(SCOPE, "g/h"), "v1").collect::<Vec<_>>(), [2]);
    assert!(acks.votes(&tracker, "another", &key(SCOPE, "g/h"), "v1").missing);
}
