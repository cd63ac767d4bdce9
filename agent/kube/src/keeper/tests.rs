use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::state::State;
use super::work::{Done, Work};
use super::{Order, Report};
use crate::cluster::Change;
use crate::cluster::tests::{failure, server};
use crate::fault::Fault;
use crate::kinds::{HTTP_ROUTE, Kind, SECURITY_POLICY};
use crate::object::{Key, Object};
use crate::standing::Standing;

const KINDS: [&Kind; 2] = [&HTTP_ROUTE, &SECURITY_POLICY];

fn json_of(kind: &str, name: &str, spec: &str) -> Value {
    let api = match kind {
        "HTTPRoute" => "gateway.networking.k8s.io/v1",
        _ => "gateway.envoyproxy.io/v1alpha1",
    };
    json!({ "apiVersion": api, "kind": kind, "spec": { "is": spec },
        "metadata": { "name": name, "namespace": "edge", "labels": { "set": "one" } } })
}

fn route(name: &str, spec: &str) -> Object {
    Object::new(json_of("HTTPRoute", name, spec)).unwrap()
}

fn policy(name: &str) -> Object {
    Object::new(json_of("SecurityPolicy", name, "")).unwrap()
}

/// As the API server has it.
fn live(object: &Object, version: u64) -> Value {
    let mut live = object.json().clone();
    let metadata = live["metadata"].as_object_mut().unwrap();
    metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    metadata.insert("uid".to_owned(), json!(format!("uid of {}", object.key().name)));
    metadata.insert("generation".to_owned(), json!(1));
    live
}

fn accepted(object: &Object, version: u64) -> Value {
    let mut live = live(object, version);
    let yes = |kind: &str| json!({ "type": kind, "status": "True", "observedGeneration": 1 });
    let conditions = json!([yes("Accepted"), yes("ResolvedRefs")]);
    live["status"] = json!({
        "parents": [{ "parentRef": { "name": "gw" }, "conditions": conditions }],
        "ancestors": [{ "ancestorRef": { "name": "gw" }, "conditions": conditions }],
    });
    live
}

struct Rig {
    state: State,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let set_of =
            |object: &Value| Some(object.pointer("/metadata/labels/set")?.as_str()?.into());
        Self { state: State::new(&KINDS, set_of), now: Instant::now() }
    }

    fn listed(mut self, objects: &[Value]) -> Self {
        for kind in KINDS {
            self.state.told(kind, Ok(Change::ListBegins), self.now);
            for object in objects.iter().filter(|object| object["kind"] == kind.kind) {
                self.state.told(kind, Ok(Change::Listed(object.clone())), self.now);
            }
            self.state.told(kind, Ok(Change::ListEnds), self.now);
        }
        self
    }

    fn want(&mut self, objects: &[Object]) {
        let (set, gateway) = ("one".to_owned(), "gw".to_owned());
        let objects = objects.to_vec();
        self.state.order(Order::Want { set, revision: 1, gateway, objects }, self.now);
    }

    fn work(&mut self) -> Option<Work> {
        self.state.next_work(self.now)
    }

    /// Does all that there is to do, without fault.
    fn settle(&mut self, version: u64) -> (Vec<String>, Vec<String>) {
        let (mut applied, mut deleted) = (Vec::new(), Vec::new());
        while let Some(work) = self.work() {
            applied.extend(work.apply.iter().map(|object| object.key().name.clone()));
            deleted.extend(work.delete.iter().map(|(key, _)| key.name.clone()));
            let done = Done {
                set: work.set,
                applied: work
                    .apply
                    .into_iter()
                    .map(|it| (it.clone(), live(&it, version)))
                    .collect(),
                deleted: work.delete.into_iter().map(|(key, _)| key).collect(),
                fault: None,
            };
            self.state.done(done, self.now);
        }
        (applied, deleted)
    }

    fn told(&mut self, object: &Value) {
        let kind = Key::of(object).unwrap().kind;
        self.state.told(kind, Ok(Change::Applied(object.clone())), self.now);
    }

    fn standing(&mut self) -> Option<Standing> {
        let reports = self.state.reports(self.now);
        reports.into_iter().rev().find_map(|report| match report {
            Report::Stands { standing, .. } => Some(standing),
            Report::Drifted { .. } | Report::Corrected { .. } => None,
        })
    }

    fn drift(&mut self) -> Option<(String, Option<String>)> {
        let reports = self.state.reports(self.now);
        reports.into_iter().find_map(|report| match report {
            Report::Drifted { field, by, .. } => Some((field, by)),
            Report::Stands { .. } | Report::Corrected { .. } => None,
        })
    }

    fn corrected(&mut self) -> Vec<String> {
        let reports = self.state.reports(self.now).into_iter();
        let corrected = reports.filter_map(|report| match report {
            Report::Corrected { object, .. } => Some(object),
            Report::Stands { .. } | Report::Drifted { .. } => None,
        });
        corrected.collect()
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }
}

#[test]
fn objects_are_applied_in_order_and_what_left_the_set_is_removed_routes_first() {
    let mut rig = Rig::new().listed(&[]);
    rig.want(&[policy("p"), route("a", ""), route("b", "")]);
    assert_eq!(rig.settle(1), (vec!["p".into(), "a".into(), "b".into()], vec![]));
    assert_eq!(rig.settle(2), (vec![], vec![]), "nothing is applied twice");
    rig.want(&[route("b", "changed")]);
    assert_eq!(rig.settle(3), (vec!["b".into()], vec![]), "its controller has not taken it");
    rig.told(&accepted(&route("b", "changed"), 4));
    assert_eq!(rig.settle(5), (vec![], vec!["a".into(), "p".into()]));
    rig.state.order(Order::Forget { set: "one".into() }, rig.now);
    assert_eq!(rig.settle(4), (vec![], vec!["b".into()]));
}

#[test]
fn nothing_is_removed_before_everything_was_listed_and_all_sets_are_told() {
    let [old, other] = [live(&route("old", ""), 1), accepted(&route("a", ""), 1)];
    let mut rig = Rig::new();
    rig.want(&[route("a", "")]);
    rig.told(&old);
    rig.told(&other);
    assert_eq!(rig.settle(2), (vec!["a".into()], vec![]), "the lists have not ended");
    let mut stray = live(&route("stray", ""), 1);
    stray["metadata"]["labels"]["set"] = json!("two");
    let mut rig = rig.listed(&[old, other, stray]);
    rig.told(&accepted(&route("a", ""), 3));
    assert_eq!(rig.settle(3).1, ["old"]);
    rig.state.order(Order::Complete, rig.now);
    assert_eq!(rig.settle(3).1, ["stray"], "nobody wants it");
}

#[test]
fn a_set_that_is_held_keeps_what_it_has_until_it_is_wanted() {
    let old = live(&route("old", ""), 1);
    let mut rig = Rig::new().listed(&[old]);
    rig.state.order(Order::Hold { set: "one".into() }, rig.now);
    rig.state.order(Order::Complete, rig.now);
    assert_eq!(rig.settle(2), (vec![], vec![]), "nobody has said that it should go");
    assert_eq!(rig.standing(), None);
    rig.want(&[route("a", "")]);
    assert_eq!(rig.settle(3).0, ["a"]);
    rig.told(&accepted(&route("a", ""), 4));
    assert_eq!(rig.settle(5).1, ["old"]);
}

#[test]
fn a_fault_stops_the_set_and_is_tried_again_later_each_time() {
    let mut rig = Rig::new().listed(&[]);
    rig.want(&[policy("p"), route("a", "")]);
    let mut work = rig.work().expect("it is due");
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(work.apply.len(), 2, "nothing was applied");
        let fault = Some((policy("p").key().clone(), Fault::Forbidden("no".into())));
        let done = Done { set: work.set, applied: vec![], deleted: vec![], fault };
        rig.state.done(done, rig.now);
        let refused = Standing::Refused("SecurityPolicy edge/p: forbidden: no".to_owned());
        assert!(rig.standing().is_none_or(|it| it == refused));
        let before = rig.now;
        work = loop {
            if let Some(work) = rig.work() {
                break work;
            }
            rig.pass(50);
        };
        waits.push(rig.now.duration_since(before).as_millis());
    }
    assert!(waits[0] <= 550 && waits[9] >= 15_000, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 30_050), "{waits:?}");
}

#[test]
fn a_set_stands_as_its_controller_says_and_silence_is_a_refusal() {
    let mut rig = Rig::new().listed(&[]);
    rig.want(&[policy("p"), route("a", "")]);
    assert_eq!(rig.standing(), Some(Standing::Applying));
    rig.settle(1);
    assert_eq!(rig.standing(), Some(Standing::Waiting("SecurityPolicy p".into())));
    rig.told(&accepted(&policy("p"), 2));
    assert_eq!(rig.standing(), Some(Standing::Waiting("HTTPRoute a".into())));
    rig.told(&accepted(&route("a", ""), 2));
    assert_eq!(rig.standing(), Some(Standing::Accepted));
    rig.want(&[policy("p"), route("a", "changed")]);
    rig.settle(3);
    rig.pass(10_000);
    let Some(Standing::Refused(words)) = rig.standing() else { panic!("nobody answers") };
    assert!(words.contains("HTTPRoute a: no controller has answered within 10 s"), "{words}");
    rig.told(&accepted(&route("a", "changed"), 4));
    assert_eq!(rig.standing(), Some(Standing::Accepted), "late is better than never");
}

#[test]
fn what_somebody_else_changes_or_deletes_is_put_right_at_once_and_in_a_fight_less_often() {
    let mut rig = Rig::new().listed(&[]);
    rig.want(&[route("a", "")]);
    rig.settle(1);
    let foreign = |version: u64| {
        let mut changed = live(&route("a", "theirs"), version);
        changed["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "time": "t" }]);
        changed
    };
    rig.told(&foreign(2));
    assert_eq!(rig.drift(), Some(("/spec/is".into(), Some("kubectl".into()))));
    assert_eq!(rig.corrected(), [""; 0], "not yet");
    assert_eq!(rig.settle(3).0, ["a"]);
    assert_eq!(rig.corrected(), ["HTTPRoute edge/a"]);
    rig.told(&foreign(2));
    assert_eq!(rig.drift(), None, "an old event");
    rig.state.told(&HTTP_ROUTE, Ok(Change::Deleted(live(&route("a", ""), 4))), rig.now);
    assert_eq!(rig.drift(), Some(("deleted".into(), None)));
    assert_eq!(rig.settle(5).0, ["a"]);
    let mut corrected = 0;
    for version in 0..1_000_u64 {
        rig.told(&foreign(10 + 2 * version));
        corrected += rig.settle(11 + 2 * version).0.len();
        rig.pass(60);
    }
    assert!((5..40).contains(&corrected), "1,000 edits in a minute, {corrected} corrections");
    rig.pass(120_000);
    assert!(rig.settle(100_000).0.len() <= 1);
    rig.told(&foreign(200_000));
    assert_eq!(rig.settle(200_001).0, ["a"], "the fight is over");
}

#[test]
fn a_kind_that_is_not_installed_holds_up_nothing_else() {
    let mut rig = Rig::new();
    let missing = || Err(Fault::KindMissing("SecurityPolicy".into()));
    rig.state.told(&SECURITY_POLICY, missing(), rig.now);
    rig.state.told(&HTTP_ROUTE, Ok(Change::ListBegins), rig.now);
    rig.state.told(&HTTP_ROUTE, Ok(Change::Listed(live(&route("old", ""), 1))), rig.now);
    rig.state.told(&HTTP_ROUTE, Ok(Change::ListEnds), rig.now);
    rig.want(&[route("a", "")]);
    assert_eq!(rig.settle(2), (vec!["a".into()], vec![]));
    rig.told(&accepted(&route("a", ""), 3));
    assert_eq!(rig.settle(4), (vec![], vec!["old".into()]));
}

#[tokio::test]
async fn requests_are_made_in_order_until_one_fails() {
    let apply = vec![policy("p"), route("a", ""), route("b", "")];
    let answers = vec![
        (200, live(&policy("p"), 1)),
        failure(409, "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.rules"),
        (200, live(&route("a", ""), 2)),
        failure(422, "HTTPRoute is invalid: Too many: 17"),
    ];
    let (cluster, asked) = server(answers);
    let delete = vec![(route("gone", "").key().clone(), "uid".to_owned())];
    let done = Work { set: "one".into(), apply, delete }.run(cluster).await;
    let applied: Vec<_> = done.applied.iter().map(|(object, _)| &*object.key().name).collect();
    assert_eq!((applied, done.deleted.len()), (vec!["p", "a"], 0));
    let (key, fault) = done.fault.unwrap();
    assert_eq!(key.name, "b");
    assert!(matches!(fault, Fault::Invalid(_)), "{fault}");
    let forced: Vec<bool> =
        asked.lock().unwrap().iter().map(|(line, ..)| line.contains("force=true")).collect();
    assert_eq!(forced, [false, false, true, false], "asked first, then taken back");
}
