//! The cost of one change, and who falls back after a rejection.

use std::collections::BTreeSet;

use imp_proto::config as pb;
use imp_translate::assembly::Misplaced;
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{Assembly, Blame, Delta, ir};

use crate::fixtures::{self, GATEWAY, assembly, parsed, parsed_gateway, service};
use crate::resource_set::{Judge, names};

const HOST: &str = "api.example.com";

/// A publish with an upstream and a base path of its own.
fn at(id: &str, revision: u64, port: u16) -> pb::Publish {
    let mut publish = fixtures::publish(id, HOST, revision);
    publish.base_path = format!("/{id}");
    service(&mut publish).backends = vec![fixtures::backend("b1", "10.0.0.1", port)];
    publish
}

/// The types of upserts and of removals.
fn touched(delta: &Delta) -> (Vec<&str>, Vec<&str>) {
    let upserts = delta.all.upserts.iter().map(|resource| resource.type_url);
    (upserts.collect(), delta.all.removals.iter().map(|(url, _)| *url).collect())
}

fn gateway(id: &str, port: u16) -> ir::Gateway {
    ir::Gateway { id: id.into(), ..parsed_gateway(port) }
}

/// An assembly with a gateway, and an Envoy that has accepted all of it.
fn start() -> (Assembly, Judge) {
    let (mut assembly, mut judge) = (assembly(), Judge::default());
    judge.send(&assembly.set_gateway(parsed_gateway(8080)));
    judge.settle(&mut assembly);
    (assembly, judge)
}

fn set(assembly: &mut Assembly, judge: &mut Judge, publish: &pb::Publish) -> Delta {
    let delta = assembly.set_publish(parsed(publish));
    judge.send(&delta);
    delta
}

fn served(judge: &Judge, id: &str) -> Vec<u64> {
    judge.set.revisions().get(id).into_iter().flatten().copied().collect()
}

#[test]
fn one_change_is_one_scope_and_its_own_clusters() {
    let (mut assembly, mut judge) = start();
    for index in 0..50_u16 {
        let mut publish = at(&format!("p{index}"), 1, 9000 + index);
        publish.hostnames = vec![format!("h{index}.example.com")];
        let delta = set(&mut assembly, &mut judge, &publish);
        assert_eq!(touched(&delta), (vec![CLUSTER, SCOPE], vec![]));
        assert_eq!(delta.gateways[GATEWAY], delta.all);
    }
    judge.settle(&mut assembly);
    let mut edited = at("p7", 2, 9007);
    edited.hostnames = vec!["h7.example.com".into()];
    let delta = set(&mut assembly, &mut judge, &edited);
    assert_eq!(touched(&delta), (vec![SCOPE], vec![]), "its cluster is there");
    assert_eq!(touched(&set(&mut assembly, &mut judge, &edited)), (vec![], vec![]));
    judge.settle(&mut assembly);
    service(&mut edited).backends = vec![fixtures::backend("b1", "10.0.0.2", 80)];
    let delta = set(&mut assembly, &mut judge, &edited);
    assert_eq!(touched(&delta), (vec![CLUSTER, SCOPE], vec![]), "the old one serves until the ACK");
    judge.settle(&mut assembly);
    judge.set.is_whole(true);
    let delta = assembly.remove_publish("p7");
    assert_eq!(touched(&delta), (vec![], vec![CLUSTER, SCOPE]));
    judge.send(&delta);
    judge.set.is_whole(true);
}

#[test]
fn a_shared_cluster_comes_with_its_first_user_and_goes_with_its_last() {
    let (mut assembly, mut judge) = start();
    judge.send(&assembly.set_gateway(gateway("g2", 8081)));
    let publish =
        |id: &str, gateway: &str| pb::Publish { gateway_id: gateway.into(), ..at(id, 1, 9000) };
    let first = set(&mut assembly, &mut judge, &publish("a", GATEWAY));
    assert_eq!(touched(&first).0, [CLUSTER, SCOPE]);
    let neighbour = set(&mut assembly, &mut judge, &publish("b", GATEWAY));
    assert_eq!(touched(&neighbour).0, [SCOPE]);
    let elsewhere = set(&mut assembly, &mut judge, &publish("c", "g2"));
    assert_eq!(touched(&elsewhere).0, [SCOPE], "whoever serves all gateways has it");
    let of_second: Vec<_> = elsewhere.gateways["g2"].upserts.iter().map(|r| r.type_url).collect();
    assert_eq!(of_second, [CLUSTER, SCOPE], "the second gateway's Envoys do not");
    judge.settle(&mut assembly);
    for (id, goes_here, goes_everywhere) in [("a", false, false), ("b", true, false)] {
        let delta = assembly.remove_publish(id);
        judge.send(&delta);
        judge.settle(&mut assembly);
        let here = !names(&judge.set.gateways[GATEWAY], CLUSTER).is_empty();
        let everywhere = !names(&judge.set.all, CLUSTER).is_empty();
        assert_eq!((here, everywhere), (!goes_here, !goes_everywhere), "{id}");
    }
    judge.send(&assembly.remove_publish("c"));
    assert_eq!(names(&judge.set.all, CLUSTER), BTreeSet::new());
    judge.set.is_whole(true);
}

#[test]
fn a_refused_revision_falls_back_alone_and_a_new_one_is_tried() {
    let (mut assembly, mut judge) = start();
    for id in ["a", "b"] {
        set(&mut assembly, &mut judge, &at(id, 1, 9000));
    }
    judge.settle(&mut assembly);
    judge.bad.insert(("a".into(), 2));
    set(&mut assembly, &mut judge, &at("a", 2, 9001));
    judge.settle(&mut assembly);
    assert_eq!(judge.blames, [Blame { publish_id: "a".into(), revision: 2 }]);
    assert_eq!((served(&judge, "a"), served(&judge, "b")), (vec![1], vec![1]));
    assert_eq!(assembly.refused("a"), Some(2));
    assert_eq!(assembly.requirements("a").map(|(revision, _)| revision), Some(1));
    judge.set.is_whole(true);
    let delta = set(&mut assembly, &mut judge, &at("a", 2, 9001));
    assert_eq!(delta, Delta::default(), "the same again is not tried again");
    set(&mut assembly, &mut judge, &at("b", 2, 9000));
    judge.settle(&mut assembly);
    assert_eq!(served(&judge, "b"), [2], "neighbours go on being updated");
    set(&mut assembly, &mut judge, &at("a", 3, 9001));
    judge.settle(&mut assembly);
    assert_eq!((served(&judge, "a"), assembly.refused("a")), (vec![3], None));
    assert_eq!(judge.blames.len(), 1);
}

#[test]
fn a_first_revision_that_is_refused_is_left_out() {
    let (mut assembly, mut judge) = start();
    judge.bad.insert(("a".into(), 1));
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    judge.settle(&mut assembly);
    assert_eq!(served(&judge, "a"), Vec::<u64>::new());
    assert_eq!((assembly.refused("a"), assembly.requirements("a")), (Some(1), None));
    assert_eq!(names(&judge.set.all, SCOPE), BTreeSet::new());
    judge.set.is_whole(true);
}

#[test]
fn of_many_suspects_the_culprits_are_found_and_all_others_advance() {
    for (count, culprits) in [(2, vec![1]), (16, vec![5]), (33, vec![0, 32]), (8, vec![2, 3, 4])] {
        let (mut assembly, mut judge) = start();
        let id = |index: usize| format!("p{index:02}");
        for index in 0..count {
            set(&mut assembly, &mut judge, &at(&id(index), 1, 9000));
        }
        judge.settle(&mut assembly);
        judge.bad = culprits.iter().map(|index| (id(*index), 2)).collect();
        judge.verdicts = 0;
        // Everything is sent before the first verdict.
        let mut last = Delta::default();
        for index in 0..count {
            last = assembly.set_publish(parsed(&at(&id(index), 2, 9000)));
            judge.set.apply(&last);
        }
        judge.send(&last);
        judge.settle(&mut assembly);
        let blamed: BTreeSet<_> =
            judge.blames.iter().map(|blame| (blame.publish_id.clone(), blame.revision)).collect();
        assert_eq!((&blamed, judge.blames.len()), (&judge.bad, culprits.len()));
        for index in 0..count {
            let expected = if culprits.contains(&index) { 1 } else { 2 };
            assert_eq!(served(&judge, &id(index)), [expected], "{index} of {count}");
        }
        let halvings = usize::try_from(count.ilog2()).unwrap() + 2;
        let bound = 2 * halvings * (culprits.len() + 1);
        assert!(judge.verdicts <= bound, "{} verdicts for {count}", judge.verdicts);
    }
}

#[test]
fn a_publish_that_arrives_during_the_search_is_judged_too() {
    let (mut assembly, mut judge) = start();
    judge.bad = [("b".to_owned(), 1), ("late".to_owned(), 1)].into();
    for id in ["a", "b", "c", "d"] {
        set(&mut assembly, &mut judge, &at(id, 1, 9000));
    }
    for _ in 0..6 {
        judge.judge(&mut assembly, 1);
    }
    set(&mut assembly, &mut judge, &at("late", 1, 9000));
    set(&mut assembly, &mut judge, &at("fine", 1, 9000));
    judge.settle(&mut assembly);
    let revisions = judge.set.revisions();
    assert_eq!(revisions.into_keys().collect::<Vec<_>>(), ["a", "c", "d", "fine"]);
    assert_eq!(judge.blames.len(), 2);
}

/// A publish at two hosts, which have other publishes, too, and so no routes in common. Its second revision
/// was rejected at the second one.
fn refused_at_one_of_two_hosts() -> (Assembly, Judge, String) {
    let (mut assembly, mut judge) = start();
    let hosts = vec![HOST.to_owned(), "b.example.com".to_owned()];
    let publish = |revision| pb::Publish { hostnames: hosts.clone(), ..at("a", revision, 9000) };
    set(&mut assembly, &mut judge, &publish(1));
    set(&mut assembly, &mut judge, &at("neighbour", 1, 9000));
    judge.settle(&mut assembly);
    let delta = assembly.set_publish(parsed(&publish(2)));
    judge.set.apply(&delta);
    let of = |host| {
        let name = fixtures::scope(8080, host);
        delta.all.upserts.iter().find(|it| *it.name == *name).unwrap()
    };
    let (first, second) = (of(HOST), of("b.example.com"));
    let accepted = assembly.accepted(SCOPE, &first.name, &first.version);
    assert_eq!(touched(&accepted), (vec![], vec![]));
    let (delta, blames) = assembly.nacked("", SCOPE, &second.name, &second.version);
    judge.set.apply(&delta);
    assert_eq!(blames, [Blame { publish_id: "a".into(), revision: 2 }]);
    (assembly, judge, first.name.to_string())
}

#[test]
fn what_is_refused_at_one_host_falls_back_at_all_of_them() {
    let (_, judge, _) = refused_at_one_of_two_hosts();
    assert_eq!(served(&judge, "a"), [1]);
}

#[test]
fn a_fallback_that_is_refused_as_well_goes_and_holds_up_nobody() {
    let (mut assembly, mut judge, host) = refused_at_one_of_two_hosts();
    let fallback = judge.set.all[&(SCOPE, host.clone())].version.clone();
    let (delta, blames) = assembly.nacked("", SCOPE, &host, &fallback);
    judge.set.apply(&delta);
    assert_eq!((served(&judge, "a"), blames), (vec![], vec![]), "blamed already");
    set(&mut assembly, &mut judge, &at("b", 1, 9000));
    judge.settle(&mut assembly);
    assert_eq!((served(&judge, "b"), assembly.refused("a")), (vec![1], Some(2)));
}

#[test]
fn verdicts_about_the_past_change_nothing() {
    let (mut assembly, mut judge) = start();
    let old = set(&mut assembly, &mut judge, &at("a", 1, 9000));
    let old = old.all.upserts.iter().find(|r| r.type_url == SCOPE).cloned().unwrap();
    set(&mut assembly, &mut judge, &at("a", 2, 9000));
    let (delta, blames) = assembly.nacked("", SCOPE, &old.name, &old.version);
    assert_eq!((delta, blames), (Delta::default(), vec![]));
    judge.settle(&mut assembly);
    let again = assembly.accepted(SCOPE, &old.name, &old.version);
    assert_eq!(again, Delta::default());
    for (url, name) in [
        (SCOPE, "no-scope"),
        (ROUTES, "r00112233445566778899"),
        (CLUSTER, "c-none"),
        ("type.googleapis.com/x", "y"),
    ] {
        assert_eq!(assembly.accepted(url, name, "v"), Delta::default());
        assert_eq!(assembly.nacked(GATEWAY, url, name, "v").0, Delta::default());
    }
    assert_eq!(assembly.requirements("a").map(|(revision, _)| revision), Some(2));
}

#[test]
fn a_refused_cluster_is_its_users_fault_only() {
    let (mut assembly, mut judge) = start();
    judge.bad_ports.insert(666);
    for (id, port) in [("a", 9000), ("b", 666), ("c", 666)] {
        set(&mut assembly, &mut judge, &at(id, 1, port));
    }
    judge.settle(&mut assembly);
    assert_eq!(judge.set.revisions().into_keys().collect::<Vec<_>>(), ["a"]);
    let mut blamed: Vec<_> = judge.blames.iter().map(|b| b.publish_id.as_str()).collect();
    blamed.sort_unstable();
    assert_eq!(blamed, ["b", "c"]);
    judge.set.is_whole(true);
}

#[test]
fn a_gateway_that_goes_and_comes_back_serves_as_before() {
    let (mut assembly, mut judge) = start();
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    judge.settle(&mut assembly);
    let before = judge.set.versions();
    let delta = assembly.remove_gateway(GATEWAY);
    assert_eq!(touched(&delta), (vec![], vec![CLUSTER, LISTENER, SCOPE]));
    judge.send(&delta);
    assert_eq!(assembly.requirements("a"), None, "nothing is active without a gateway");
    assert_eq!(assembly.remove_gateway(GATEWAY), Delta::default());
    judge.send(&assembly.set_gateway(parsed_gateway(8080)));
    judge.settle(&mut assembly);
    assert_eq!(judge.set.versions(), before);
    assert!(assembly.requirements("a").is_some());
}

#[test]
fn a_gateways_listeners_change_by_themselves() {
    let (mut assembly, mut judge) = start();
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    let mut wider = fixtures::gateway(8080);
    wider.listeners.push(pb::Listener {
        name: "b".into(),
        port: 8081,
        ..wider.listeners[0].clone()
    });
    let delta = assembly.set_gateway(ir::Gateway::parse(&wider).unwrap());
    // Their order depends on the names of tables, which are hashes.
    let mut upserted = touched(&delta).0;
    upserted.sort_unstable();
    let mut expected = [LISTENER, ROUTES, SCOPE, SCOPE, SCOPE];
    expected.sort_unstable();
    assert_eq!(upserted, expected, "now both share a table");
    let upserts: BTreeSet<_> = delta.all.upserts.iter().map(|it| it.name.to_string()).collect();
    let both = [8080, 8081].map(|port| fixtures::scope(port, HOST));
    assert!(upserts.contains("port-8081") && both.iter().all(|name| upserts.contains(name)));
    let delta = assembly.set_gateway(parsed_gateway(8080));
    let scope = (SCOPE, fixtures::scope(8081, "api.example.com"));
    let listener = (LISTENER, "port-8081".to_owned());
    assert!([listener, scope].iter().all(|it| delta.all.removals.contains(it)), "{delta:?}");
    let upserts: Vec<_> = delta.all.upserts.iter().map(|it| &*it.name).collect();
    assert_eq!(
        upserts,
        [&*fixtures::scope(8080, HOST)],
        "the other has its routes for itself again"
    );
}

#[test]
fn a_host_of_many_publishes_is_as_whole_as_one_of_few() {
    let (mut assembly, mut judge) = start();
    for count in 0..30_u16 {
        set(&mut assembly, &mut judge, &at(&format!("p{count:02}"), 1, 9000 + count));
        judge.settle(&mut assembly);
        judge.set.is_whole(true);
    }
    let many = judge.set.versions();
    judge.bad.insert(("p07".into(), 2));
    set(&mut assembly, &mut judge, &at("p07", 2, 9100));
    judge.settle(&mut assembly);
    assert_eq!(judge.set.versions(), many);
    for count in 0..30 {
        judge.send(&assembly.remove_publish(&format!("p{count:02}")));
        judge.settle(&mut assembly);
        judge.set.is_whole(true);
    }
}

#[test]
fn a_publish_moves_to_another_host_and_gateway() {
    let (mut assembly, mut judge) = start();
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    judge.settle(&mut assembly);
    let mut moved = at("a", 2, 9000);
    moved.hostnames = vec!["new.example.com".into()];
    set(&mut assembly, &mut judge, &moved);
    judge.settle(&mut assembly);
    assert_eq!(
        names(&judge.set.all, SCOPE),
        BTreeSet::from([fixtures::scope(8080, "new.example.com")])
    );
    judge.send(&assembly.set_gateway(gateway("g2", 8081)));
    moved.gateway_id = "g2".into();
    set(&mut assembly, &mut judge, &moved);
    judge.settle(&mut assembly);
    assert_eq!(
        names(&judge.set.all, SCOPE),
        BTreeSet::from([fixtures::scope(8081, "new.example.com")])
    );
    assert!(judge.set.gateways[GATEWAY].keys().all(|(url, _)| ![SCOPE, CLUSTER].contains(url)));
    judge.set.is_whole(true);
}

#[test]
fn what_must_be_acked_is_named_with_the_versions_that_are_served() {
    let (mut assembly, mut judge) = start();
    let mut publish = at("a", 1, 9000);
    publish.hostnames.push("b.example.com".into());
    set(&mut assembly, &mut judge, &publish);
    let (revision, needs) = assembly.requirements("a").unwrap();
    let urls: Vec<_> = needs.iter().map(|(url, ..)| *url).collect();
    assert_eq!((revision, urls), (1, vec![CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE, SCOPE]));
    for (url, name, version) in &needs {
        let there = judge.set.all.get(&(*url, name.to_string())).map(|resource| &resource.version);
        assert_eq!(there, Some(version), "{url} {name}");
        assert_eq!(assembly.publishes_of(GATEWAY, url, name), ["a"], "{url} {name}");
    }
    assert_eq!(assembly.requirements("nobody"), None);
}

/// One Envoy listener, whose bytes do not name a gateway; the hosts decide.
#[test]
fn gateways_share_a_port_and_the_second_sends_no_listener() {
    let (mut assembly, mut judge) = start();
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    let delta = assembly.set_gateway(gateway("g2", 8080));
    judge.send(&delta);
    assert_eq!(touched(&delta), (vec![EXTENSION], vec![]), "the listener is there");
    let own: Vec<_> = delta.gateways["g2"].upserts.iter().map(|r| &*r.name).collect();
    assert_eq!(own, ["imp.door", "port-8080"], "an Envoy of the second gateway alone needs it");
    let other = pb::Publish {
        gateway_id: "g2".into(),
        hostnames: vec!["other.example.com".into()],
        ..at("b", 1, 9001)
    };
    set(&mut assembly, &mut judge, &other);
    judge.settle(&mut assembly);
    judge.set.is_whole(true);
    let scopes = names(&judge.set.all, SCOPE);
    let of_both = ["api.example.com", "other.example.com"].map(|host| fixtures::scope(8080, host));
    assert_eq!(scopes, of_both.into());
    assert_eq!(
        names(&judge.set.gateways["g2"], SCOPE),
        BTreeSet::from([fixtures::scope(8080, "other.example.com")])
    );
    for (id, gateway) in [("a", GATEWAY), ("b", "g2")] {
        let (_, needs) = assembly.requirements(id).unwrap();
        assert!(needs.iter().any(|(url, name, _)| (*url, &**name) == (LISTENER, "port-8080")));
        assert_eq!(assembly.publishes_of(gateway, LISTENER, "port-8080"), [id]);
    }

    let delta = assembly.remove_gateway(GATEWAY);
    judge.send(&delta);
    judge.settle(&mut assembly);
    assert!(!touched(&delta).1.contains(&LISTENER), "the other gateway keeps it: {delta:?}");
    assert!(assembly.requirements("b").is_some());
    let delta = assembly.remove_gateway("g2");
    assert!(touched(&delta).1.contains(&LISTENER), "{delta:?}");
}

#[test]
fn who_waits_for_several_hosts_takes_each_when_it_is_free() {
    let (mut assembly, mut judge) = start();
    judge.send(&assembly.set_gateway(gateway("g2", 8080)));
    let hosts = ["one.example.com", "two.example.com"];
    for (id, host) in ["a", "b"].into_iter().zip(hosts) {
        let mut first = at(id, 1, 9000);
        first.hostnames = vec![host.to_owned()];
        set(&mut assembly, &mut judge, &first);
    }
    let mut waits = pb::Publish { gateway_id: "g2".into(), ..at("c", 1, 9001) };
    waits.hostnames = hosts.map(str::to_owned).to_vec();
    set(&mut assembly, &mut judge, &waits);
    let taken = |host: &str| Misplaced::Taken { port: 8080, host: host.to_owned() };
    assert_eq!(assembly.misplaced("c"), Some(&taken(hosts[0])));
    // Not the one that is reported.
    judge.send(&assembly.remove_publish("b"));
    judge.settle(&mut assembly);
    let two = &fixtures::scope(8080, "two.example.com");
    assert_eq!(assembly.publishes_of("g2", SCOPE, two), ["c"], "it serves what is free");
    assert_eq!(assembly.misplaced("c"), Some(&taken(hosts[0])));
    judge.send(&assembly.remove_publish("a"));
    judge.settle(&mut assembly);
    assert_eq!((served(&judge, "c"), assembly.misplaced("c")), (vec![1], None));
    let scopes = assembly.requirements("c").unwrap().1.into_iter().filter(|it| it.0 == SCOPE);
    assert_eq!(scopes.count(), 2);
    judge.set.is_whole(true);
}

#[test]
fn a_host_at_a_port_stays_with_the_gateway_that_had_it_first() {
    let (mut assembly, mut judge) = start();
    judge.send(&assembly.set_gateway(gateway("g2", 8080)));
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    let second = pb::Publish { gateway_id: "g2".into(), ..at("b", 1, 9001) };
    let delta = set(&mut assembly, &mut judge, &second);
    assert_eq!(delta, Delta::default());
    let taken = Misplaced::Taken { port: 8080, host: HOST.into() };
    assert_eq!((assembly.misplaced("a"), assembly.misplaced("b")), (None, Some(&taken)));
    assert_eq!(assembly.requirements("b"), None);
    judge.settle(&mut assembly);
    assert_eq!((served(&judge, "a"), served(&judge, "b")), (vec![1], vec![]));

    judge.send(&assembly.remove_publish("a"));
    judge.settle(&mut assembly);
    assert_eq!((served(&judge, "a"), served(&judge, "b")), (vec![], vec![1]));
    assert_eq!(assembly.misplaced("b"), None);
    assert!(assembly.requirements("b").is_some());
    judge.set.is_whole(true);
}

#[test]
fn a_listener_with_a_hostname_has_no_scope_for_other_hosts() {
    let (mut assembly, mut judge) = start();
    let mut narrow = fixtures::gateway(8080);
    narrow.listeners[0].hostname = "only.example.com".into();
    judge.send(&assembly.set_gateway(ir::Gateway::parse(&narrow).unwrap()));
    set(&mut assembly, &mut judge, &at("a", 1, 9000));
    assert_eq!(assembly.misplaced("a"), Some(&Misplaced::NotAdmitted(HOST.into())));
    assert_eq!(names(&judge.set.all, SCOPE), BTreeSet::new());
    // The gateway admits all hosts again.
    let delta = assembly.set_gateway(parsed_gateway(8080));
    assert_eq!(touched(&delta).0, [CLUSTER, SCOPE], "and the listener is the same");
    assert_eq!(assembly.misplaced("a"), None);
}
