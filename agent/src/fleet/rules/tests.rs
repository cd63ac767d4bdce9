//! Tests of former rules.

use imp_enforce::{Call, Presented, PublishKey};
use imp_proto::config as pb;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fleet::Fleet;
use crate::intake::{self, Item};
use crate::lkg::Lkg;

fn rules(environment: usize) -> PublishAccess {
    let environment = environment.to_string();
    PublishAccess::from(&pb::Publish { id: "p".into(), environment, ..Default::default() })
}

fn held(former: &FormerRules) -> Vec<PublishAccess> {
    former.iter().cloned().collect()
}

/// A publish with one route, at a revision.
fn publish(revision: u64, mode: pb::publish::AuthMode) -> Item {
    let path = pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) };
    let endpoint = pb::Endpoint { host: "10.0.0.1".into(), port: 80, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    let route = pb::Route {
        id: "r".into(),
        path: Some(path),
        backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
        ..Default::default()
    };
    let (routes, backends) = (vec![route], vec![backend]);
    let service = pb::ApiService { id: "s".into(), routes, backends, ..Default::default() };
    let publish = pb::Publish {
        id: "p".into(),
        gateway_id: "g".into(),
        auth_mode: mode.into(),
        hostnames: vec!["a.example.com".into()],
        base_path: "/".into(),
        revision,
        api_services: vec![service],
        ..Default::default()
    };
    let wire = publish.encode_to_vec().into();
    Item::Publish(Box::new(intake::publish(&wire, &"p".into()).unwrap()))
}

fn gateway() -> Item {
    let protocol = pb::listener::Protocol::Http.into();
    let listener = pb::Listener { name: "http".into(), port: 8080, protocol, ..Default::default() };
    let message = pb::Gateway { id: "g".into(), listeners: vec![listener], ..Default::default() };
    Item::Gateway(imp_translate::ir::Gateway::parse(&message).unwrap())
}

#[tokio::test]
async fn former_rules_go_from_engine_and_disk_once_every_envoy_runs_others() {
    use pb::publish::AuthMode::{ApiKey, None as Open};
    let directory = tempfile::tempdir().unwrap();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    let cancel = CancellationToken::new();
    let fleet = Fleet::empty(lkg.clone(), cancel.clone());
    fleet.change(vec![gateway(), publish(1, ApiKey)], vec![], vec![]);
    fleet.change(vec![publish(2, Open)], vec![], vec![]);
    let asks_for_a_key = || {
        let call = Call {
            publish: PublishKey::Id("p"),
            route_id: "r",
            // All known rules apply.
            access: "",
            gateway_id: None,
            credential: Presented::None,
            client: None,
            now: imp_process::clock::now(),
        };
        fleet.shared.engine.decide(&call).is_err()
    };
    {
        let mut core = fleet.lock();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        core.sweep_former_rules(later(1_000));
        core.sweep_former_rules(later(2_000));
        assert!(asks_for_a_key(), "no Envoy has been here since");
        core.tracker.open(1, crate::fleet::tracker::Target::new("e", None, "1.40.0", 0));
        assert!(core.acks.open(1, false), "the first one");
        core.note_stale("p");
        core.follow_all();
        let (_, needs) = core.assembly.requirements("p").unwrap();
        for (url, name, version) in needs {
            core.acks.acked(1, &(url, name), Some(&version));
        }
        core.sweep_former_rules(later(3_000));
        assert!(asks_for_a_key() && !core.with_former_rules.is_empty());
        core.sweep_former_rules(later(4_000));
        assert!(!asks_for_a_key() && core.with_former_rules.is_empty());
    }
    lkg.flush().await;
    lkg.close();
    cancel.cancel();
    drop((fleet, lkg));
    let (_, loaded) = Lkg::open(directory.path()).unwrap();
    assert_eq!(loaded.rows(Table::Rules), []);
}

#[test]
fn revisions_with_the_same_rules_add_nothing() {
    let mut former = FormerRules::default();
    assert!(!former.add(rules(1), &rules(1), None));
    assert!(former.row().is_none());
    assert!(former.add(rules(1), &rules(2), None));
    assert!(!former.add(rules(2), &rules(2), None), "a revision that changes something else");
    assert!(former.add(rules(2), &rules(1), None), "back to the first");
    assert_eq!(held(&former), [rules(2)]);
    assert_eq!(held(&FormerRules::read("p", &former.row().unwrap())), [rules(2)]);
    assert_eq!(held(&FormerRules::read("q", &former.row().unwrap())), []);
    assert_eq!(held(&FormerRules::read("p", b"what is this")), []);
}

#[test]
fn too_many_are_not_held_and_what_envoys_ran_stays() {
    let mut former = FormerRules::default();
    for number in 1..=100 {
        former.add(rules(number), &rules(number + 1), Some(&rules(1)));
    }
    let held = held(&former);
    assert_eq!(held.len(), FORMER_RULES);
    assert_eq!((held.first(), held.last()), (Some(&rules(100)), Some(&rules(1))));
}

#[test]
fn equal_rules_at_other_places_are_held_too() {
    let at = |host: &str, base_path: &str| {
        let (hostnames, base_path) = (vec![host.to_owned()], base_path.to_owned());
        PublishAccess::from(&pb::Publish {
            id: "p".into(),
            hostnames,
            base_path,
            ..Default::default()
        })
    };
    let mut former = FormerRules::default();
    assert!(former.add(at("a", "/"), &at("b", "/"), None));
    assert!(former.add(at("b", "/"), &at("b", "/below"), None));
    assert!(!former.add(at("b", "/below"), &at("b", "/below"), None));
    assert_eq!(held(&FormerRules::read("p", &former.row().unwrap())), [at("b", "/"), at("a", "/")]);
    assert!(former.add(at("b", "/below"), &at("a", "/"), None), "back to the first");
    assert_eq!(held(&former), [at("b", "/below"), at("b", "/")]);
}

#[test]
fn they_go_when_no_envoy_has_run_them_for_a_while() {
    let mut former = FormerRules::default();
    former.add(rules(1), &rules(2), None);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!former.sweep(true, at(0)));
    assert!(!former.sweep(false, at(100)), "one came back with the former routes");
    assert!(!former.sweep(true, at(105)));
    assert!(!former.sweep(true, at(130)));
    former.add(rules(3), &rules(2), None);
    assert!(!former.sweep(true, at(230)), "there is something new since");
    assert!(former.sweep(true, at(350)));
    assert!(former.row().is_none());
}
