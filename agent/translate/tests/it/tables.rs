//! Hosts with equal content share a table: when it comes and goes, and who falls back with it.

use std::collections::{BTreeMap, BTreeSet};

use imp_proto::config as pb;
use imp_translate::xds::{CLUSTER, ROUTES, SCOPE};
use imp_translate::{Assembly, Delta, Layout, ir};
use proptest::prelude::*;

use crate::fixtures::{self, assembly, parsed_gateway, ruled};
use crate::resource_set::{Judge, ResourceSet, names};

const PORT: u16 = 8080;

/// A publish at these hosts, with a content that only its tag decides. `bad` tags are those that the judge
/// rejects: see `resource_set::members`.
fn publish(id: &str, hosts: &[&str], revision: u64, tag: u64) -> ir::Publish {
    let mut publish = fixtures::publish(id, "x", revision);
    publish.hostnames = hosts.iter().map(|host| format!("{host}.example.com")).collect();
    let port = u16::try_from(9000 + tag).unwrap();
    fixtures::service(&mut publish).backends = vec![fixtures::backend("b1", "10.0.0.1", port)];
    ruled(&publish, &format!("t@{tag}"))
}

fn start() -> (Assembly, Judge) {
    let (mut assembly, mut judge) = (assembly(), Judge::default());
    judge.send(&assembly.set_gateway(parsed_gateway(PORT)));
    judge.settle(&mut assembly);
    (assembly, judge)
}

fn set(assembly: &mut Assembly, judge: &mut Judge, publish: ir::Publish) -> Delta {
    let delta = assembly.set_publish(publish);
    judge.send(&delta);
    delta
}

fn table(judge: &Judge, host: &str) -> Option<String> {
    judge.set.table_of(PORT, &format!("{host}.example.com"))
}

fn tables(judge: &Judge) -> BTreeSet<String> {
    names(&judge.set.all, ROUTES)
}

#[test]
fn the_second_host_makes_a_table_and_the_last_but_one_ends_it() {
    let (mut assembly, mut judge) = start();
    let first = set(&mut assembly, &mut judge, publish("a", &["a"], 1, 1));
    assert_eq!(first.all.upserts.len(), 2, "a cluster, and a scope with its routes");
    judge.settle(&mut assembly);
    let alone = judge.set.versions();
    set(&mut assembly, &mut judge, publish("b", &["b"], 7, 1));
    judge.settle(&mut assembly);
    assert_eq!((tables(&judge).len(), table(&judge, "a")), (1, table(&judge, "b")));
    for id in ["a", "b"] {
        let (_, needs) = assembly.requirements(id).unwrap();
        assert_eq!(needs.iter().filter(|(url, ..)| *url == ROUTES).count(), 1, "{needs:?}");
        for (url, name, version) in &needs {
            let there = judge.serving.get(&(*url, name.to_string()));
            assert_eq!(there.map(|it| &it.version), Some(version), "{url} {name}");
        }
    }
    let third = set(&mut assembly, &mut judge, publish("c", &["c"], 1, 1));
    let urls: Vec<_> = third.all.upserts.iter().map(|it| it.type_url).collect();
    assert_eq!(urls, [SCOPE], "the table is there");
    assert!(third.all.upserts[0].value.len() < 120, "{}", third.all.upserts[0].value.len());
    judge.settle(&mut assembly);
    judge.set.is_whole(true);
    judge.send(&assembly.remove_publish("c"));
    judge.send(&assembly.remove_publish("b"));
    judge.settle(&mut assembly);
    judge.set.is_whole(true);
    assert_eq!(judge.set.versions(), alone, "the routes are in its own scope again");
    judge.send(&assembly.remove_publish("a"));
    judge.settle(&mut assembly);
    assert!(names(&judge.set.all, SCOPE).is_empty() && tables(&judge).is_empty());
    assert!(names(&judge.serving, CLUSTER).is_empty());
}

#[test]
fn whoever_differs_in_anything_but_id_revision_and_hosts_shares_nothing() {
    let base = || fixtures::publish("a", "a.example.com", 1);
    let other = |change: &dyn Fn(&mut pb::Publish)| {
        let mut other = fixtures::publish("b", "b.example.com", 2);
        change(&mut other);
        ruled(&other, "rules")
    };
    let shares = |second: ir::Publish, gateways: &[&str]| {
        let mut assembly = assembly();
        let mut set = ResourceSet::default();
        for id in gateways {
            let gateway = ir::Gateway { id: (*id).into(), ..parsed_gateway(PORT) };
            set.apply(&assembly.set_gateway(gateway));
        }
        set.apply(&assembly.set_publish(ruled(&base(), "rules")));
        set.apply(&assembly.set_publish(second));
        set.is_whole(true);
        !names(&set.all, ROUTES).is_empty()
    };
    let both = ["g1", "g2"];
    assert!(shares(other(&|_| {}), &both));
    let changes: [&dyn Fn(&mut pb::Publish); 9] = [
        &|p| p.tenant_id = "t2".into(),
        &|p| p.product_id = "p2".into(),
        &|p| p.environment = "test".into(),
        &|p| p.gateway_id = "g2".into(),
        &|p| p.base_path = "/v1".into(),
        &|p| p.suspended = true,
        &|p| p.auth_mode = pb::publish::AuthMode::None.into(),
        &|p| fixtures::service(p).routes[0].timeout_ms = 7,
        &|p| fixtures::service(p).backends = vec![fixtures::backend("b1", "127.0.0.1", 9001)],
    ];
    for (number, change) in changes.iter().enumerate() {
        assert!(!shares(other(change), &both), "{number}");
    }
    assert!(!shares(ruled(&fixtures::publish("b", "b.example.com", 2), "others"), &both));
}

#[test]
fn a_redeploy_of_what_many_hold_is_one_table_and_a_small_scope_for_each() {
    const COUNT: usize = 500;
    let (mut assembly, mut judge) = start();
    let id = |number: usize| format!("p{number:03}");
    for number in 0..COUNT {
        set(&mut assembly, &mut judge, publish(&id(number), &[&id(number)], 1, 1));
    }
    judge.settle(&mut assembly);
    assert_eq!(tables(&judge).len(), 1);
    let (mut tables_sent, mut scopes, mut bytes) = (0, 0, 0);
    for number in 0..COUNT {
        let delta = set(&mut assembly, &mut judge, publish(&id(number), &[&id(number)], 2, 2));
        for sent in &delta.all.upserts {
            tables_sent += usize::from(sent.type_url == ROUTES);
            scopes += usize::from(sent.type_url == SCOPE);
            bytes += sent.value.len();
        }
        assert!(delta.all.upserts.len() <= 5, "{number}: {delta:?}");
    }
    judge.settle(&mut assembly);
    judge.set.is_whole(true);
    assert_eq!((tables_sent, tables(&judge).len()), (1, 1));
    // The first one before it has company, the last one of the former table, and the holder.
    assert!(scopes <= COUNT + 3, "{scopes}");
    assert!(bytes < 150 * COUNT, "{bytes}");
}

#[test]
fn a_rejected_table_costs_its_own_publishes_one_verdict() {
    let (mut assembly, mut judge) = start();
    for (id, tag) in [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3), ("new", 3)] {
        set(&mut assembly, &mut judge, publish(id, &[id], 1, tag));
    }
    judge.settle(&mut assembly);
    let former = table(&judge, "a");
    judge.bad.insert(("t".into(), 9));
    judge.verdicts = 0;
    // All before the first verdict.
    let mut last = BTreeMap::new();
    for id in ["a", "b", "c", "late"] {
        let delta = assembly.set_publish(publish(id, &[id], 2, 9));
        judge.set.apply(&delta);
        for upsert in delta.all.upserts {
            last.insert((upsert.type_url, upsert.name.clone()), upsert);
        }
    }
    let held = |it: &&imp_translate::Rendered| {
        judge.set.all.get(&(it.type_url, it.name.to_string())).is_some_and(|now| now == *it)
    };
    let upserts: Vec<_> = last.values().filter(held).cloned().collect();
    let all = imp_translate::GatewayDelta { upserts, removals: vec![] };
    judge.queue(&all);
    judge.settle(&mut assembly);
    let blamed: BTreeSet<_> = judge.blames.iter().map(|it| it.publish_id.as_str()).collect();
    assert_eq!(blamed, ["a", "b", "c", "late"].into());
    assert_eq!(judge.blames.len(), 4);
    for id in ["a", "b", "c"] {
        assert_eq!(assembly.refused(id), Some(2));
        assert_eq!(assembly.requirements(id).map(|(revision, _)| revision), Some(1), "{id}");
    }
    assert_eq!((table(&judge, "a"), table(&judge, "b")), (former.clone(), former));
    assert_eq!((assembly.requirements("late"), assembly.refused("late")), (None, Some(2)));
    judge.set.is_whole(true);
    for id in ["d", "e", "new"] {
        assert_eq!(assembly.refused(id), None, "{id}");
    }
    // The same content once more is other bytes, which they share.
    judge.bad.clear();
    for id in ["a", "b"] {
        set(&mut assembly, &mut judge, publish(id, &[id], 3, 9));
    }
    judge.settle(&mut assembly);
    assert_eq!((assembly.refused("a"), assembly.refused("b")), (None, None));
    assert!(table(&judge, "a").is_some() && table(&judge, "a") == table(&judge, "b"));
    assert_eq!((assembly.proven("a"), assembly.proven("b")), (Some(3), Some(3)));
}

#[test]
fn refused_revisions_that_are_tried_again_together_share_a_table_again() {
    let (mut assembly, mut judge) = start();
    judge.bad.insert(("t".into(), 1));
    for id in ["a", "b"] {
        set(&mut assembly, &mut judge, publish(id, &[id], 1, 1));
    }
    judge.settle(&mut assembly);
    assert_eq!((assembly.refused("a"), assembly.refused("b")), (Some(1), Some(1)));
    judge.bad.clear();
    for id in ["a", "b"] {
        let delta = assembly.retry(id, 77).unwrap();
        judge.send(&delta);
    }
    judge.settle(&mut assembly);
    assert_eq!((assembly.proven("a"), tables(&judge).len()), (Some(1), 1));
    judge.set.is_whole(true);
}

#[test]
fn a_revision_with_the_same_content_sends_nothing_and_is_there_at_once() {
    let (mut assembly, mut judge) = start();
    for id in ["a", "b", "c"] {
        set(&mut assembly, &mut judge, publish(id, &[id], 1, u64::from(id == "c")));
    }
    judge.settle(&mut assembly);
    for id in ["a", "c"] {
        let delta = set(&mut assembly, &mut judge, publish(id, &[id], 2, u64::from(id == "c")));
        assert_eq!(delta, Delta::default());
        let (revision, needs) = assembly.requirements(id).unwrap();
        assert_eq!((revision, assembly.proven(id)), (2, Some(2)), "nobody will answer about it");
        let held = |(url, name, version): &(&'static str, std::sync::Arc<str>, _)| {
            judge.serving.get(&(*url, name.to_string())).is_some_and(|it| it.version == *version)
        };
        assert!(needs.iter().all(held), "{needs:?}");
    }
}

#[test]
fn without_tables_each_scope_has_its_routes() {
    let mut assembly = Assembly::new(fixtures::options(Layout::InlineScopes));
    let mut set = ResourceSet::default();
    set.apply(&assembly.set_gateway(parsed_gateway(PORT)));
    for id in ["a", "b", "c"] {
        set.apply(&assembly.set_publish(publish(id, &[id], 1, 1)));
    }
    assert_eq!(names(&set.all, ROUTES), BTreeSet::new());
    assert_eq!(names(&set.all, SCOPE).len(), 3);
    set.is_whole(true);
}

#[test]
fn people_see_port_and_host_instead_of_hashes() {
    let (mut assembly, mut judge) = start();
    for id in ["a", "b", "c"] {
        set(&mut assembly, &mut judge, publish(id, &[id], 1, u64::from(id == "c")));
    }
    for id in ["a", "b", "c"] {
        let place = format!("{PORT}/{id}.example.com");
        let (_, needs) = assembly.requirements(id).unwrap();
        for (url, name, _) in &needs {
            let expected =
                if [ROUTES, SCOPE].contains(url) { place.as_str() } else { name.as_ref() };
            assert_eq!(assembly.described(id, url, name), expected);
        }
    }
    assert_eq!(assembly.described("a", SCOPE, "nothing"), "nothing");
}

#[derive(Clone, Debug)]
enum Step {
    /// A publish gets a content. The last ones are at two hosts, or at the host of another.
    Set(usize, u64),
    Remove(usize),
    Verdict(usize),
}

const PUBLISHES: [(&str, &[&str]); 7] = [
    ("p0", &["a"]),
    ("p1", &["b"]),
    ("p2", &["c"]),
    ("p3", &["d"]),
    ("p4", &["e", "f"]),
    ("p5", &["g", "h"]),
    ("p6", &["a", "b", "c"]),
];

fn nth(number: usize, revision: u64, tag: u64) -> ir::Publish {
    let (id, hosts) = PUBLISHES[number];
    let mut publish = publish(id, hosts, revision, tag);
    if id == "p6" {
        publish.base_path = "/under".into();
    }
    publish
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PUBLISHES.len(), 0..4_u64).prop_map(|(it, tag)| Step::Set(it, tag)),
        1 => (0..PUBLISHES.len()).prop_map(Step::Remove),
        9 => any::<usize>().prop_map(Step::Verdict),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Tag 3 is bad. In any order of changes and verdicts no host names a table that Envoy lacks (the
    /// judge checks it at every step), who wants a good content serves it, and what is there is what one
    /// would have built from scratch.
    #[test]
    fn whoever_shares_with_whom_everybody_serves_what_it_should(
        steps in proptest::collection::vec(step(), 1..70),
        quiet in any::<bool>(),
    ) {
        let (mut assembly, mut judge) = start();
        judge.quiet = quiet;
        judge.bad.insert(("t".into(), 3));
        let mut wanted: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let revision = u64::try_from(number).unwrap() + 1;
            let delta = match step {
                Step::Set(it, tag) => {
                    wanted.insert(it, (revision, tag));
                    assembly.set_publish(nth(it, revision, tag))
                }
                Step::Remove(it) => {
                    wanted.remove(&it);
                    assembly.remove_publish(PUBLISHES[it].0)
                }
                Step::Verdict(index) => {
                    judge.judge(&mut assembly, index);
                    continue;
                }
            };
            judge.send(&delta);
            judge.set.is_whole(false);
        }
        judge.settle(&mut assembly);
        judge.set.is_whole(true);
        for (key, resource) in &judge.set.all {
            let served = judge.serving.get(key).map(|it| &it.version);
            prop_assert_eq!(served, Some(&resource.version), "{:?}", key);
        }
        prop_assert_eq!(judge.serving.len(), judge.set.all.len());
        let mut all_good = true;
        for (it, (revision, tag)) in &wanted {
            let id = PUBLISHES[*it].0;
            let refused = (*tag == 3).then_some(*revision);
            all_good &= refused.is_none();
            prop_assert_eq!(assembly.refused(id), refused, "{}", id);
            if refused.is_none() {
                prop_assert_eq!(assembly.proven(id), Some(*revision), "{}", id);
                let needs = assembly.requirements(id);
                prop_assert_eq!(needs.map(|(revision, _)| revision), Some(*revision), "{}", id);
            }
        }
        if all_good {
            let mut scratch = ResourceSet::default();
            let mut from_scratch = fixtures::assembly();
            scratch.apply(&from_scratch.set_gateway(parsed_gateway(PORT)));
            for (it, (revision, tag)) in &wanted {
                scratch.apply(&from_scratch.set_publish(nth(*it, *revision, *tag)));
            }
            prop_assert_eq!(judge.set.versions(), scratch.versions());
        }
    }
}
