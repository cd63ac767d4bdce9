//! Snapshots of what is rendered, for review: `golden/in/<case>.json` becomes
//! `golden/out/<case>.snap`. To add a case, add an input;
//! `INSTA_UPDATE=always cargo test -p imp-translate golden` writes the outputs.

mod form;
pub(crate) mod objects;
mod readable;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use imp_proto::config as pb;
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{Assembly, Delta, Rendered, ir};

use crate::fixtures::{self, assembly, parsed, parsed_gateway};
use crate::resource_set::{ResourceSet, Resources};
use form::{Case, Shown};

const HOST: &str = "api.example.com";

/// Cases with the same base path and no path in common: together they are one publish.
const OF_ROUTES: [&str; 10] = [
    "paths",
    "matchers",
    "methods",
    "rewrites",
    "weights",
    "request_headers",
    "response_headers",
    "ip_access",
    "cors",
    "rate_limit",
];

/// Every feature of a route, each on a path of its own, under "/v1" of one host.
pub(crate) fn rich(id: &str, host: &str, upstream: u16) -> pb::Publish {
    let mut rich = pb::Publish { id: id.into(), ..fixtures::publish(id, host, 1) };
    rich.base_path = "/v1".into();
    rich.api_services.clear();
    for publish in OF_ROUTES.iter().flat_map(|name| Case::read(name).publishes()) {
        let before = u32::try_from(rich.policies.len()).unwrap();
        assert_eq!(publish.base_path, rich.base_path);
        rich.policies.extend(publish.policies);
        for mut service in publish.api_services {
            let routes = service.routes.iter_mut();
            for place in routes.flat_map(|route| &mut route.policy_indexes) {
                *place += before;
            }
            let backends = service.backends.iter_mut();
            for endpoint in backends.flat_map(|backend| &mut backend.endpoints) {
                endpoint.port = upstream.into();
            }
            rich.api_services.push(service);
        }
    }
    rich
}

/// The names of all cases.
fn names(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(form::folder().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let of_kind = paths.filter(|path| path.extension().is_some_and(|it| it == extension));
    of_kind.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// All resources of Envoys in each case.
pub(crate) fn gateway_resources() -> impl Iterator<Item = (String, Resources)> {
    names("in", "json").into_iter().map(|name| {
        let set = resource_set(&Case::read(&name));
        (name, set.all)
    })
}

fn resource_set(case: &Case) -> ResourceSet {
    let mut assembly = Assembly::new(fixtures::options(case.layout()));
    let mut set = ResourceSet::default();
    let gateway = ir::Gateway::parse(&case.gateway(8080)).unwrap();
    set.apply(&assembly.set_gateway(gateway));
    for publish in case.publishes() {
        set.apply(&assembly.set_publish(parsed(&publish)));
    }
    set
}

fn output(case: &Case) -> String {
    let set = resource_set(case);
    let of = |shown: &Shown| {
        let type_url = match shown {
            Shown::Listeners => LISTENER,
            Shown::Clusters => CLUSTER,
            Shown::Scopes => SCOPE,
            Shown::Routes => ROUTES,
            Shown::Extensions => EXTENSION,
        };
        set.all.values().filter(move |resource| resource.type_url == type_url)
    };
    readable(&case.shows.iter().flat_map(of).collect::<Vec<_>>())
}

#[test]
fn every_input_becomes_its_output() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(form::folder().join("out"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let inputs = names("in", "json");
    let differs = |name: &&String| {
        let case =
            || settings.bind(|| insta::assert_snapshot!(name.as_str(), output(&Case::read(name))));
        catch_unwind(AssertUnwindSafe(case)).is_err()
    };
    let differing: Vec<_> = inputs.iter().filter(differs).collect();
    assert!(differing.is_empty(), "{differing:?}; the differences are above");
    assert_eq!(names("out", "snap"), inputs, "an output without an input");
    for policy in imp_proto::policies::TYPES {
        assert!(inputs.contains(policy), "no case shows {policy}");
    }
}

/// A route that is looked up again has left filters out, and what follows a redirect or fetches a
/// library may pass by the door (`agent/module/tests/it/traps.rs`).
#[test]
fn nothing_that_is_rendered_passes_by_the_door() {
    for (name, resources) in gateway_resources() {
        let shown = readable(&resources.values().collect::<Vec<_>>());
        for word in [
            "clear_route_cache",
            "route_cache_action",
            "internal_redirect_policy",
            "HandleInternalRedirect",
            "http_uri",
        ] {
            assert!(!shown.contains(word), "{name}: {word}");
        }
        assert!(name == "smallest" || shown.contains("imp.door"), "{name}");
    }
}

fn of_type<'a>(delta: &'a Delta, type_url: &str) -> Vec<&'a Rendered> {
    delta.all.upserts.iter().filter(|resource| resource.type_url == type_url).collect()
}

fn readable(resources: &[&Rendered]) -> String {
    assert!(!resources.is_empty());
    let one = |resource: &&Rendered| readable::resource(resource.type_url, &resource.value);
    resources.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// An assembly with a gateway.
fn open() -> Assembly {
    let mut assembly = assembly();
    assembly.set_gateway(parsed_gateway(8080));
    assembly
}

/// Nothing drains: whatever happens to publishes, the gateway's listener stays the same byte by
/// byte and is not sent again.
#[test]
fn no_change_of_a_publish_changes_the_listener() {
    let mut assembly = assembly();
    let first = assembly.set_gateway(parsed_gateway(8080));
    let listener = of_type(&first, LISTENER).first().map(|r| (r.version.clone(), r.value.clone()));
    let base = rich("p1", HOST, 9000);
    let edited = |change: &dyn Fn(&mut pb::Publish)| {
        let mut publish = base.clone();
        change(&mut publish);
        publish
    };
    let policy = fixtures::response_headers(pb::Headers {
        set: vec![fixtures::header("x-new", "1")],
        ..Default::default()
    });
    let rate = pb::RateLimit { requests: 5, window_seconds: 60 };
    let rate = pb::Policy { id: "r".into(), kind: Some(pb::policy::Kind::RateLimit(rate)) };
    let steps = [
        base.clone(),
        edited(&|p| p.revision = 2),
        edited(&|p| fixtures::service(p).routes.truncate(1)),
        edited(&|p| p.policies[0].kind.clone_from(&policy.kind)),
        edited(&|p| p.policies[0].kind.clone_from(&rate.kind)),
        edited(&|p| p.base_path = "/v2".into()),
        edited(&|p| p.hostnames.push("second.example.com".into())),
        edited(&|p| p.hostnames = vec!["third.example.com".into()]),
        edited(&|p| p.auth_mode = pb::publish::AuthMode::None.into()),
        edited(&|p| p.suspended = true),
        fixtures::publish("p2", HOST, 1),
    ];
    for step in &steps {
        let delta = assembly.set_publish(parsed(step));
        let touched = |delta: &Delta| {
            let upserts = delta.all.upserts.iter().map(|r| r.type_url);
            upserts.chain(delta.all.removals.iter().map(|(url, _)| *url)).any(|url| url == LISTENER)
        };
        assert!(!touched(&delta), "{step:?}");
        for resource in delta.all.upserts {
            let (url, name) = (resource.type_url, resource.name);
            assert!(!touched(&assembly.accepted(url, &name, &resource.version)));
        }
    }
    for id in ["p1", "p2"] {
        let delta = assembly.remove_publish(id);
        assert_eq!(of_type(&delta, LISTENER), Vec::<&Rendered>::new());
    }
    assert!(assembly.set_gateway(parsed_gateway(8080)).all.upserts.is_empty(), "nothing is new");
    let again = fixtures::assembly().set_gateway(parsed_gateway(8080));
    let after = of_type(&again, LISTENER).first().map(|r| (r.version.clone(), r.value.clone()));
    assert_eq!(after, listener, "a restart renders the same");
}

/// Connections without a call bypass the router's filter, and a cluster with filters of its own
/// would leave that filter out.
#[test]
fn no_cluster_connects_without_being_judged() {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
    use prost::Message as _;
    let delta = open().set_publish(parsed(&rich("p1", HOST, 9000)));
    let clusters = of_type(&delta, CLUSTER);
    assert!(!clusters.is_empty());
    for rendered in clusters {
        let cluster = Cluster::decode(rendered.value.clone()).unwrap();
        assert_eq!(cluster.health_checks, []);
        assert_eq!(cluster.preconnect_policy, None);
        for options in cluster.typed_extension_protocol_options.values() {
            let options = HttpProtocolOptions::decode(options.value.as_slice()).unwrap();
            assert_eq!(options.http_filters, []);
        }
    }
    let scopes = readable(&of_type(&delta, SCOPE));
    assert!(!scopes.contains("request_mirror_policies"), "{scopes}");
}
