//! Tests of statuses.

use super::*;

fn node(id: &str, gateway: Option<&str>) -> Target {
    Target::new(id, gateway.map(str::to_owned), "1.40.0", 0)
}

fn said(tracker: &mut Tracker, target: TargetId, revision: u64, verdict: Verdict) {
    tracker.take(Outcome { publish: "p".into(), revision, target, verdict });
}

fn error(words: &str) -> pb::PublishError {
    pb::PublishError { envoy_message: words.to_owned(), ..Default::default() }
}

fn refusal(words: &str) -> Verdict {
    Verdict::Refused(Box::new(error(words)))
}

/// Wants this revision of publish "p" on gateway "g".
fn want(tracker: &mut Tracker, revision: u64) {
    tracker.want("p", "g", revision);
    tracker.render("p", Some(revision));
}

fn take(tracker: &mut Tracker, target: TargetId, revision: u64) {
    said(tracker, target, revision, Verdict::Accepted);
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
    take(&mut tracker, 3, 1);
    assert_eq!(status(&mut tracker), (1, 0, [1, 0, 1]), "one lacks it, one does not serve it");
    take(&mut tracker, 2, 1);
    assert_eq!(status(&mut tracker), (1, 1, [2, 0, 0]));
    want(&mut tracker, 2);
    take(&mut tracker, 2, 1);
    assert_eq!(status(&mut tracker), (2, 1, [0, 0, 2]), "old revisions count for nothing");
    take(&mut tracker, 1, 2);
    tracker.close(2);
    assert_eq!(status(&mut tracker), (2, 2, [1, 0, 0]), "who left does not count");
    said(&mut tracker, 1, 2, Verdict::Gone);
    assert_eq!(status(&mut tracker), (2, 2, [0, 0, 1]), "it gave a part of it up");
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
    said(&mut tracker, 2, 1, refusal("no"));
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
    said(&mut tracker, 1, 2, refusal("no good"));
    tracker.refuse("p", 2, error("no good"), &["a 1.40.0".to_owned()]);
    tracker.render("p", Some(1));
    take(&mut tracker, 1, 1);
    assert_eq!(status(&mut tracker), (2, 1, [0, 1, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert_eq!(error.envoy_message, "no good");
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
    tracker.refuse("p", 1, error("no good"), &["a 1.40.0".to_owned()]);
    tracker.render("p", None);
    assert_eq!(status(&mut tracker), (1, 0, [0, 1, 0]));
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
    tracker.render("p", Some(1));
    tracker.settle();
    assert_eq!(tracker.take_changed(10).len(), 2);
    tracker.open(1, node("a", None));
    tracker.settle();
    assert_eq!(tracker.take_changed(1).len(), 1, "no more than asked for");
    assert_eq!(tracker.take_changed(10).len(), 1);
    take(&mut tracker, 1, 1);
    assert_eq!(tracker.settle(), [("p".into(), 1)]);
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
    // A busy client gets more time, within a bound.
    tracker.open(3, node("busy", None));
    want(&mut tracker, 3);
    take(&mut tracker, 1, 3);
    take(&mut tracker, 2, 3);
    for second in 116..175 {
        tracker.tick(at(second));
        tracker.heard(3);
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
    said(&mut tracker, 2, 1, refusal("no good"));
    assert_eq!(status(&mut tracker), (1, 1, [1, 1, 0]));
    let error = tracker.statuses().pop().and_then(|status| status.error).unwrap();
    assert_eq!(error.envoy_message, "no good");
    tracker.close(2);
    assert_eq!(status(&mut tracker), (1, 1, [1, 0, 0]), "its verdict left with it");
}

#[test]
fn a_refusal_stands_for_those_that_said_it() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.open(1, node("a", None));
    tracker.refuse("p", 1, error("no good"), &["a 1.40.0".to_owned()]);
    assert!(tracker.unheard_by(1).is_empty() && tracker.refused_by_nobody().is_empty());
    tracker.open(2, node("b", Some("another")));
    assert!(tracker.unheard_by(2).is_empty(), "it does not serve the gateway");
    tracker.open(3, node("b", Some("g")));
    assert_eq!(tracker.unheard_by(3), ["p".into()]);
    tracker.close(1);
    assert_eq!(tracker.refused_by_nobody(), ["p".into()]);
    tracker.close(3);
    assert!(tracker.refused_by_nobody().is_empty(), "nobody is there to judge it");
    tracker.open(4, Target::new("a", None, "1.41.0", 0));
    assert_eq!(tracker.unheard_by(4), ["p".into()], "another version may think otherwise");
    tracker.withdraw("p");
    assert!(tracker.unheard_by(4).is_empty());
}

/// The reference model, computed from all events.
#[derive(Default)]
struct Model {
    targets: BTreeMap<TargetId, Option<&'static str>>,
    /// Gateway, wanted and rendered revision.
    publishes: BTreeMap<&'static str, (&'static str, u64, Option<u64>)>,
    said: BTreeMap<(&'static str, TargetId), Verdict>,
}

impl Model {
    /// acked, nacked, behind; their sum is the number of targets that serve the publish.
    fn counts(&self, publish: &str) -> [u32; 3] {
        let (gateway, _, rendered) = self.publishes[publish];
        let mut counts = [0; 3];
        for (target, own) in &self.targets {
            if own.is_some_and(|own| own != gateway) {
                continue;
            }
            let said = self.said.iter().find(|((of, by), _)| *of == publish && by == target);
            let slot = match said.filter(|_| rendered.is_some()) {
                Some((_, Verdict::Accepted)) => 0,
                Some((_, Verdict::Refused(_))) => 1,
                Some((_, Verdict::Gone)) | None => 2,
            };
            counts[slot] += 1;
        }
        counts
    }
}

/// For any sequence of events, the statuses equal those of a model that looks at everything, and a
/// listener that receives each change knows them all.
#[test]
fn statuses_follow_from_what_was_said_in_any_order() {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    const PUBLISHES: [&str; 3] = ["p", "q", "r"];
    const GATEWAYS: [&str; 2] = ["g", "h"];
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut tracker, mut model) = (Tracker::default(), Model::default());
        let mut told = BTreeMap::new();
        let mut next_target = 0;
        for _ in 0..120 {
            let publish = PUBLISHES[rng.random_range(0..3)];
            let target = rng.random_range(0..next_target + 1);
            match rng.random_range(0..10) {
                0 => {
                    let gateway = [None, Some("g"), Some("h")][rng.random_range(0..3)];
                    tracker.open(next_target, node("n", gateway));
                    model.targets.insert(next_target, gateway);
                    next_target += 1;
                }
                1 => {
                    tracker.close(target);
                    model.targets.remove(&target);
                    model.said.retain(|(_, by), _| *by != target);
                }
                2 => {
                    let (gateway, revision) =
                        (GATEWAYS[rng.random_range(0..2)], rng.random_range(1..4));
                    tracker.want(publish, gateway, revision);
                    let known = model.publishes.entry(publish).or_insert((gateway, revision, None));
                    if known.0 != gateway {
                        model.said.retain(|(of, _), _| *of != publish);
                    }
                    (known.0, known.1) = (gateway, revision);
                }
                3 => {
                    let rendered = [None, Some(1), Some(2)][rng.random_range(0..3)];
                    tracker.render(publish, rendered);
                    if let Some(known) = model.publishes.get_mut(publish)
                        && std::mem::replace(&mut known.2, rendered) != rendered
                    {
                        model.said.retain(|(of, _), _| *of != publish);
                    }
                }
                4 => {
                    tracker.remove(publish);
                    model.publishes.remove(publish);
                    model.said.retain(|(of, _), _| *of != publish);
                    told.remove(publish);
                }
                _ => {
                    let revision = rng.random_range(1..3);
                    let all = [Verdict::Accepted, refusal("no"), Verdict::Gone];
                    let verdict = all[rng.random_range(0..3)].clone();
                    let outcome = Outcome {
                        publish: publish.into(),
                        revision,
                        target,
                        verdict: verdict.clone(),
                    };
                    tracker.take(outcome);
                    if let (Some(known), Some(own)) =
                        (model.publishes.get(publish), model.targets.get(&target))
                        && known.2 == Some(revision)
                        && own.is_none_or(|own| own == known.0)
                    {
                        model.said.insert((publish, target), verdict);
                    }
                }
            }
            tracker.settle();
            for status in tracker.take_changed(usize::MAX) {
                told.insert(status.publish_id.clone(), status);
            }
            let mut statuses: Vec<_> = tracker.statuses();
            statuses.sort_by(|a, b| a.publish_id.cmp(&b.publish_id));
            assert!(statuses.iter().eq(told.values()), "seed {seed}");
            assert_eq!(statuses.len(), model.publishes.len(), "seed {seed}");
            for status in statuses {
                let id = status.publish_id.as_str();
                let counts = [status.nodes_acked, status.nodes_nacked, status.nodes_behind];
                assert_eq!(counts, model.counts(id), "seed {seed}, {id}");
                let (_, wanted, rendered) = model.publishes[id];
                assert_eq!(status.revision, wanted);
                let everywhere = rendered == Some(wanted) && counts[0] > 0 && counts[1..] == [0, 0];
                assert_eq!(tracker.is_everywhere(id), everywhere, "seed {seed}, {id}");
                if everywhere {
                    assert_eq!(status.acked_revision, wanted, "seed {seed}, {id}");
                }
            }
        }
    }
}

#[test]
fn who_waits_is_looked_at_when_a_client_may_be_silent_and_not_before() {
    let mut tracker = Tracker::default();
    let at = std::time::Duration::from_millis;
    tracker.tick(at(100));
    tracker.open(1, node("mute", None));
    want(&mut tracker, 1);
    tracker.settle();
    for ms in (200..15_000).step_by(250) {
        tracker.tick(at(ms));
        assert!(tracker.touched.is_empty(), "{ms}");
    }
    tracker.tick(at(15_100));
    assert_eq!(tracker.touched.len(), 1);
    tracker.settle();
    assert_eq!(tracker.statuses().pop().unwrap().nodes_silent, 1);
    assert!(tracker.waiting.is_empty(), "nobody is waited for");
}

#[test]
fn a_client_that_comes_to_many_publishes_does_not_delay_the_verdict_about_one() {
    let mut tracker = Tracker::default();
    let ids: Vec<String> = (0..3 * super::PORTION).map(|number| format!("p{number}")).collect();
    for id in &ids {
        tracker.want(id.as_str(), "g", 1);
        tracker.render(id, Some(1));
    }
    tracker.settle();
    tracker.take_changed(usize::MAX);
    tracker.open(1, node("a", None));
    let last = ids.last().unwrap().as_str();
    let verdict = Verdict::Accepted;
    tracker.take(Outcome { publish: last.into(), revision: 1, target: 1, verdict });
    assert_eq!(tracker.settle(), [(last.into(), 1)]);
    assert!(tracker.is_behind() && tracker.has_verdict());
    let mut told = tracker.take_changed(usize::MAX).len();
    assert!(told <= super::PORTION + 1, "{told}");
    while tracker.is_behind() {
        tracker.settle();
        told += tracker.take_changed(usize::MAX).len();
    }
    assert_eq!(told, ids.len());
}

#[test]
fn while_gateway_api_serves_a_refusal_of_envoys_waits_for_them() {
    let mut tracker = Tracker::default();
    tracker.open(GATEWAY_API, Target::gateway_api());
    want(&mut tracker, 1);
    tracker.deliver("p", true);
    tracker.render("p", Some(1));
    take(&mut tracker, GATEWAY_API, 1);
    assert!(tracker.is_accepted_by_gateway_api("p"));
    tracker.open(1, node("a", None));
    tracker.refuse("p", 1, error("no"), &[node("a", None).mark()]);
    assert_eq!(status(&mut tracker), (1, 1, [1, 0, 0]));
    assert_eq!(tracker.unheard_by(1), [], "it has judged");
    tracker.open(2, node("b", None));
    assert_eq!(tracker.unheard_by(2), ["p".into()]);
    tracker.deliver("p", false);
    assert_eq!(status(&mut tracker), (1, 0, [0, 1, 1]), "now it counts");
    tracker.leave_envoys("p");
    tracker.deliver("p", true);
    tracker.render("p", Some(1));
    take(&mut tracker, GATEWAY_API, 1);
    assert_eq!(status(&mut tracker), (1, 1, [1, 0, 0]));
}

#[test]
fn what_is_said_beside_the_status_is_told_once_and_goes_with_its_reason() {
    let mut tracker = Tracker::default();
    want(&mut tracker, 1);
    tracker.settle();
    tracker.take_changed(9);
    let said = |reason: &str| pb::PublishCondition { reason: reason.into(), ..Default::default() };
    tracker.say("p", About::Drifted, Some(said("drift")));
    tracker.say("p", About::Delivery, Some(said("path")));
    tracker.say("p", About::Delivery, Some(said("path")));
    tracker.say("another", About::Delivery, Some(said("path")));
    tracker.settle();
    let told = tracker.take_changed(9);
    assert_eq!((told.len(), &told[0].conditions), (1, &vec![said("path"), said("drift")]));
    tracker.say("p", About::Drifted, Some(said("drift")));
    tracker.settle();
    assert!(!tracker.has_changed());
    tracker.say("p", About::Drifted, None);
    tracker.say("p", About::Delivery, None);
    tracker.settle();
    assert_eq!(tracker.take_changed(9)[0].conditions, []);
}
