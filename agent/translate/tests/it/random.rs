//! Any order of changes leads to the same result as building from scratch.

use std::collections::BTreeMap;

use imp_proto::config as pb;
use imp_translate::{Assembly, Layout, ir};
use proptest::prelude::*;

use crate::fixtures::{self, assembly, header, request_headers, response_headers, service};
use crate::resource_set::{Judge, ResourceSet, members};

const GATEWAYS: [&str; 2] = ["g1", "g2"];
const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    SetGateway(usize, u16),
    RemoveGateway(usize),
    /// A new revision of a publish, and whether Envoy will reject it.
    Set(Box<pb::Publish>, bool),
    Remove(usize),
    /// Envoy judges the next version of one of the resources in flight.
    Verdict(usize),
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "v1", "pay", "x-y", "Z.9", "~u", "$&+,;"])
        .prop_filter_map("a path's characters", |w| (!w.contains(';')).then(|| w.to_owned()))
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(word(), 0..3).prop_map(|words| format!("/{}", words.join("/")))
}

fn path_match() -> impl Strategy<Value = pb::path_match::Kind> {
    prop_oneof![
        path().prop_map(|p| fixtures::exact(&p)),
        path().prop_map(|p| fixtures::prefix(&p)),
        path().prop_map(|p| fixtures::template(&format!("{}/{{id}}", p.trim_end_matches('/')))),
        path().prop_map(|p| fixtures::regex(&format!("{}/[0-9]+.*", regex_escaped(&p)))),
    ]
}

fn regex_escaped(path: &str) -> String {
    path.chars().flat_map(|c| if "$.+".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

fn headers() -> impl Strategy<Value = pb::Headers> {
    let pair = (proptest::sample::select(vec!["x-a", "x-b", "accept"]), "[ -$&-~]{0,12}(%%)?");
    let pairs = || proptest::collection::vec(pair.clone(), 0..3);
    let list = |pairs: Vec<(&str, String)>| pairs.iter().map(|(k, v)| header(k, v)).collect();
    (pairs(), pairs(), proptest::option::of(Just("x-a".to_owned()))).prop_map(
        move |(set, add, remove)| pb::Headers {
            set: list(set),
            add: list(add),
            remove: remove.into_iter().collect(),
        },
    )
}

fn route() -> impl Strategy<Value = pb::Route> {
    let methods = proptest::sample::subsequence(vec!["GET", "POST", "DELETE"], 0..=3);
    let rewrite = proptest::option::of(path());
    let policies = proptest::option::of((headers(), headers()));
    (path_match(), methods, -1..2_i32, rewrite, policies, 1..4_u32).prop_map(
        |(path, methods, priority, rewrite, policies, weight)| {
            let mut route = fixtures::route("r", path);
            route.methods = methods.into_iter().map(str::to_owned).collect();
            route.priority = priority;
            route.rewrite = rewrite.map(|path| pb::Rewrite { path, ..Default::default() });
            let both = |(a, b)| vec![request_headers(a), response_headers(b)];
            route.policies = policies.map(both).unwrap_or_default();
            if weight > 2 {
                let second = pb::WeightedBackend { backend_id: "b2".into(), weight };
                route.backends.push(second);
            }
            route
        },
    )
}

pub(crate) fn publish() -> impl Strategy<Value = pb::Publish> {
    let hosts = proptest::sample::subsequence(vec!["x.test", "y.test", "z.test"], 1..=3);
    let place = (0..IDS.len(), 0..GATEWAYS.len(), hosts, path());
    let routes = proptest::collection::vec(route(), 1..4);
    (place, routes, 0..3_u16, proptest::bool::weighted(0.1)).prop_map(
        |((id, gateway, hosts, base_path), routes, port, suspended)| {
            let mut publish = fixtures::publish(IDS[id], "x.test", 0);
            publish.gateway_id = GATEWAYS[gateway].into();
            // Gateways share ports, and no host is on two of them.
            let own = |host: &str| format!("{host}.{}", GATEWAYS[gateway]);
            publish.hostnames = hosts.into_iter().map(own).collect();
            publish.base_path = base_path;
            publish.suspended = suspended;
            let service = service(&mut publish);
            service.backends = vec![
                fixtures::backend("b1", "10.0.0.1", 9000 + port),
                fixtures::backend("b2", "up.test", 9000 + port),
            ];
            service.routes = routes;
            for (index, route) in service.routes.iter_mut().enumerate() {
                route.id = format!("r{index}");
            }
            publish
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..GATEWAYS.len(), 0..2_u16).prop_map(|(g, port)| Step::SetGateway(g, 8080 + port)),
        1 => (0..GATEWAYS.len()).prop_map(Step::RemoveGateway),
        8 => (publish(), proptest::bool::weighted(0.2))
            .prop_map(|(publish, bad)| {
                // Nothing in its routes tells a suspended publish.
                let bad = bad && !publish.suspended;
                Step::Set(Box::new(publish), bad)
            }),
        2 => (0..IDS.len()).prop_map(Step::Remove),
        12 => any::<usize>().prop_map(Step::Verdict),
    ]
}

fn gateway(index: usize, port: u16) -> ir::Gateway {
    ir::Gateway { id: GATEWAYS[index].into(), ..fixtures::parsed_gateway(port) }
}

/// What was set, as the control plane knows it.
#[derive(Default)]
struct Wanted {
    gateways: BTreeMap<usize, u16>,
    publishes: BTreeMap<String, u64>,
    revisions: BTreeMap<(String, u64), ir::Publish>,
}

fn run(steps: Vec<Step>, assembly: &mut Assembly, judge: &mut Judge, settled: bool) -> Wanted {
    let mut wanted = Wanted::default();
    for (number, step) in steps.into_iter().enumerate() {
        let delta = match step {
            Step::SetGateway(index, port) => {
                wanted.gateways.insert(index, port);
                assembly.set_gateway(gateway(index, port))
            }
            Step::RemoveGateway(index) => {
                wanted.gateways.remove(&index);
                assembly.remove_gateway(GATEWAYS[index])
            }
            Step::Set(message, bad) => {
                let revision = u64::try_from(number).unwrap() + 1;
                let publish = fixtures::parsed(&pb::Publish { revision, ..*message });
                let key = (publish.id.to_string(), revision);
                if bad {
                    judge.bad.insert(key.clone());
                }
                wanted.publishes.insert(publish.id.to_string(), revision);
                wanted.revisions.insert(key, publish.clone());
                assembly.set_publish(publish)
            }
            Step::Remove(index) => {
                wanted.publishes.remove(IDS[index]);
                assembly.remove_publish(IDS[index])
            }
            Step::Verdict(index) => {
                judge.judge(assembly, index);
                judge.set.is_whole(false);
                continue;
            }
        };
        judge.send(&delta);
        judge.set.is_whole(false);
        if settled {
            judge.settle(assembly);
        }
    }
    wanted
}

/// Everything at once, nothing rejected.
fn from_scratch<'a>(
    layout: Layout,
    gateways: &BTreeMap<usize, u16>,
    publishes: impl Iterator<Item = &'a ir::Publish>,
) -> ResourceSet {
    let (mut assembly, mut set) =
        (Assembly::new(fixtures::options(layout)), ResourceSet::default());
    for publish in publishes {
        set.apply(&assembly.set_publish(publish.clone()));
    }
    for (index, port) in gateways {
        set.apply(&assembly.set_gateway(gateway(*index, *port)));
    }
    set
}

/// Nothing in the routes of a suspended publish tells which it is.
fn is_seen(wanted: &Wanted, id: &str, revision: u64) -> bool {
    !wanted.revisions[&(id.to_owned(), revision)].suspended
}

fn is_as_from_scratch(assembly: &Assembly, judge: &Judge, wanted: &Wanted) {
    let served = judge.set.revisions();
    let mut effective: BTreeMap<String, u64> = BTreeMap::new();
    for (id, desired) in &wanted.publishes {
        let key = (id.clone(), *desired);
        let serving = match assembly.refused(id) {
            Some(refused) => {
                assert!(refused == *desired && judge.bad.contains(&key), "{key:?} was never bad");
                assembly.proven(id)
            }
            None => Some(*desired),
        };
        let Some(serving) = serving else { continue };
        let gateway = &wanted.revisions[&(id.clone(), serving)].gateway_id;
        // Without its gateway it is served nowhere, and not judged.
        if wanted.gateways.keys().any(|index| GATEWAYS[*index] == gateway) {
            effective.insert(id.clone(), serving);
        }
    }
    let seen = effective.iter().filter(|(id, revision)| is_seen(wanted, id, **revision));
    let seen: BTreeMap<_, _> =
        seen.map(|(id, revision)| (id.clone(), [*revision].into())).collect();
    assert_eq!(served, seen);
    for pair in &effective {
        assert!(!judge.bad.contains(&(pair.0.clone(), *pair.1)), "{pair:?} is bad and served");
    }
    let publishes =
        effective.iter().map(|(id, revision)| &wanted.revisions[&(id.clone(), *revision)]);
    let scratch = from_scratch(Layout::ScopedRoutes, &wanted.gateways, publishes);
    assert_eq!(judge.set.versions(), scratch.versions());
    judge.set.is_whole(true);
}

/// Rebuilds from what an agent stores: what is wanted, what was rejected, and its fallback.
fn is_as_after_a_restart(assembly: &Assembly, judge: &Judge, wanted: &Wanted) {
    let (mut restarted, mut set) = (fixtures::assembly(), ResourceSet::default());
    for (index, port) in &wanted.gateways {
        set.apply(&restarted.set_gateway(gateway(*index, *port)));
    }
    for (id, revision) in &wanted.publishes {
        let publish = wanted.revisions[&(id.clone(), *revision)].clone();
        set.apply(&restarted.set_publish(publish));
    }
    for id in wanted.publishes.keys() {
        let Some(revision) = assembly.refused(id) else { continue };
        let former =
            assembly.proven(id).map(|former| wanted.revisions[&(id.clone(), former)].clone());
        assert_eq!(restarted.set_refused(id, revision + 1, former.clone()), None, "another one");
        set.apply(&restarted.set_refused(id, revision, former).unwrap());
        assert_eq!(restarted.refused(id), Some(revision));
    }
    assert_eq!(set.versions(), judge.set.versions());
}

/// Envoy finally runs what was last sent.
fn envoy_has_it_all(judge: &Judge) {
    for (key, resource) in &judge.serving {
        assert_eq!(judge.set.all.get(key).map(|r| &r.version), Some(&resource.version), "{key:?}");
        let of_it = members(resource, &judge.serving);
        assert!(of_it.iter().all(|member| !judge.bad.contains(member)), "{of_it:?}");
    }
    assert_eq!(judge.serving.len(), judge.set.all.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_end_is_what_one_would_have_built_from_scratch(
        steps in proptest::collection::vec(step(), 1..60),
        quiet in any::<bool>(),
    ) {
        let (mut assembly, mut judge) = (assembly(), Judge::default());
        judge.quiet = quiet;
        let wanted = run(steps, &mut assembly, &mut judge, false);
        judge.settle(&mut assembly);
        is_as_from_scratch(&assembly, &judge, &wanted);
        is_as_after_a_restart(&assembly, &judge, &wanted);
        envoy_has_it_all(&judge);
    }

    #[test]
    fn a_bad_revision_falls_back_to_the_last_good_one(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let (mut assembly, mut judge) = (assembly(), Judge::default());
        let is_of_gateway = |s: &Step| matches!(s, Step::SetGateway(..) | Step::RemoveGateway(_));
        let gateways = [Step::SetGateway(0, 8080), Step::SetGateway(1, 8080)];
        let steps: Vec<Step> = gateways
            .into_iter()
            .chain(steps.into_iter().filter(|step| !is_of_gateway(step)))
            .collect();
        let mut good: BTreeMap<String, u64> = BTreeMap::new();
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            let revision = u64::try_from(number).unwrap() + 1;
            match step {
                Step::Set(publish, bad) => {
                    if !bad {
                        good.insert(publish.id.clone(), revision);
                    }
                    expected.remove(&publish.id);
                    let last = good.get(&publish.id).map(|last| (publish.id.clone(), *last));
                    expected.extend(last);
                }
                Step::Remove(index) => {
                    good.remove(IDS[*index]);
                    expected.remove(IDS[*index]);
                }
                _ => {}
            }
        }
        // One change at a time, each judged before the next.
        let wanted = run(steps, &mut assembly, &mut judge, true);
        let served = judge.set.revisions();
        let served = served.into_iter().map(|(id, of_it)| (id, of_it.into_iter().collect::<Vec<_>>()));
        let expected = expected.into_iter().filter(|(id, revision)| is_seen(&wanted, id, *revision));
        let expected = expected.map(|(id, revision)| (id, vec![revision]));
        prop_assert_eq!(served.collect::<BTreeMap<_, _>>(), expected.collect());
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        publishes in proptest::collection::vec(publish(), 1..6),
        seed in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let layout = if whole { Layout::WholeRds } else { Layout::ScopedRoutes };
        let distinct: BTreeMap<_, _> =
            publishes.iter().map(|p| (p.id.clone(), fixtures::parsed(p))).collect();
        let gateways = BTreeMap::from([(0, 8080), (1, 8081)]);
        let one = from_scratch(layout, &gateways, distinct.values());
        let mut turned: Vec<_> = distinct.values().collect();
        let by = seed.index(turned.len());
        turned.rotate_left(by);
        turned.reverse();
        let other = from_scratch(layout, &gateways, turned.into_iter());
        prop_assert_eq!(one.versions(), other.versions());
        one.is_whole(true);
    }
}
