//! What is rendered, to be read and reviewed: one golden file per kind of resource, under
//! `snapshots/`. `INSTA_UPDATE=always cargo test -p imp-translate golden` writes them anew.

mod readable;

use imp_proto::config as pb;
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{Assembly, Delta, Layout, Rendered};

use crate::fixtures::{self, assembly, parsed, parsed_gateway};

const HOST: &str = "api.example.com";

fn of_type<'a>(delta: &'a Delta, type_url: &str) -> Vec<&'a Rendered> {
    delta.all.upserts.iter().filter(|resource| resource.type_url == type_url).collect()
}

fn readable(resources: &[&Rendered]) -> String {
    assert!(!resources.is_empty());
    let one = |resource: &&Rendered| readable::resource(resource.type_url, &resource.value);
    resources.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// A message from the control plane, and what became of it.
fn from_to(input: &impl std::fmt::Debug, resources: &[&Rendered]) -> String {
    format!("# From\n{}# To\n{}", readable::yaml(input), readable(resources))
}

/// With a gateway.
fn open() -> Assembly {
    let mut assembly = assembly();
    assembly.set_gateway(parsed_gateway(8080));
    assembly
}

fn scope_of(publishes: &[&pb::Publish]) -> String {
    let mut assembly = assembly();
    assembly.set_gateway(parsed_gateway(8080));
    let mut last = String::new();
    for publish in publishes {
        let delta = assembly.set_publish(parsed(publish));
        last = readable(&of_type(&delta, SCOPE));
    }
    last
}

#[test]
fn the_listener() {
    let gateway = fixtures::gateway(8080);
    let delta = assembly().set_gateway(parsed_gateway(8080));
    insta::assert_snapshot!("listener", from_to(&gateway, &of_type(&delta, LISTENER)));
}

#[test]
fn the_door() {
    let delta = assembly().set_gateway(parsed_gateway(8080));
    insta::assert_snapshot!("door", readable(&of_type(&delta, EXTENSION)));
}

#[test]
fn the_smallest_publish() {
    let publish = fixtures::publish("p1", HOST, 1);
    let delta = open().set_publish(parsed(&publish));
    insta::assert_snapshot!("smallest_publish", from_to(&publish, &of_type(&delta, SCOPE)));
}

#[test]
fn every_feature_of_a_route() {
    let publish = fixtures::rich("p1", HOST, 9000);
    let delta = open().set_publish(parsed(&publish));
    insta::assert_snapshot!("every_feature", from_to(&publish, &of_type(&delta, SCOPE)));
}

#[test]
fn every_kind_of_cluster() {
    let mut publish = fixtures::publish("p1", HOST, 1);
    let service = fixtures::service(&mut publish);
    let mut h2 = fixtures::backend("h2", "10.0.0.1", 50_051);
    h2.protocol = pb::backend::Protocol::Http2.into();
    h2.lb_policy = pb::backend::LbPolicy::LeastRequest.into();
    let mut named = fixtures::backend("named", "payments.svc", 8080);
    named.endpoints.push(pb::Endpoint { host: "2001:db8::1".into(), port: 8080, weight: 3 });
    named.connect_timeout_ms = 250;
    named.lb_policy = pb::backend::LbPolicy::Random.into();
    service.backends = vec![fixtures::backend("b1", "10.0.0.1", 80), h2, named];
    let route = service.routes.first_mut().unwrap();
    let weighted = |id: &str, weight| pb::WeightedBackend { backend_id: id.into(), weight };
    route.backends = vec![weighted("b1", 1), weighted("h2", 2), weighted("named", 3)];
    let delta = open().set_publish(parsed(&publish));
    insta::assert_snapshot!("clusters", readable(&of_type(&delta, CLUSTER)));
}

/// Deeper base paths first, and what a publish has no route for does not fall through to the
/// publish above it.
#[test]
fn several_publishes_of_one_host() {
    let at = |id: &str, base_path: &str| pb::Publish {
        base_path: base_path.into(),
        ..fixtures::publish(id, HOST, 1)
    };
    let suspended = pb::Publish { suspended: true, ..at("p-suspended", "/off") };
    let publishes = [&at("p-root", "/"), &at("p-deep", "/v1/pay"), &at("p-v1", "/v1"), &suspended];
    insta::assert_snapshot!("one_host", scope_of(&publishes));
}

/// From nine on they stand in a map.
#[test]
fn many_publishes_of_one_host() {
    let at = |index: u16| pb::Publish {
        base_path: if index == 0 { "/".into() } else { format!("/v{index}") },
        ..fixtures::publish(&format!("p{index}"), HOST, 1)
    };
    let publishes: Vec<_> = (0..9).map(at).collect();
    let scope = scope_of(&publishes.iter().collect::<Vec<_>>());
    insta::assert_snapshot!("many_publishes", scope);
}

/// The layout that our benchmarks compare with.
#[test]
fn the_usual_layout() {
    let mut assembly = Assembly::new(fixtures::options(Layout::WholeRds));
    let gateway = assembly.set_gateway(parsed_gateway(8080));
    assembly.set_publish(parsed(&fixtures::publish("p1", HOST, 1)));
    let delta = assembly.set_publish(parsed(&fixtures::publish("p2", "other.example.com", 1)));
    insta::assert_snapshot!("whole_routes", readable(&of_type(&delta, ROUTES)));
    let listener = readable(&of_type(&gateway, LISTENER));
    assert!(listener.contains("route_config_name: routes-8080"), "{listener}");
}

/// The promise that nothing drains: whatever happens to publishes, the gateway's listener is the
/// same, byte by byte, and is not even sent again.
#[test]
fn no_change_of_a_publish_changes_the_listener() {
    let mut assembly = assembly();
    let first = assembly.set_gateway(parsed_gateway(8080));
    let listener = of_type(&first, LISTENER).first().map(|r| (r.version.clone(), r.value.clone()));
    let base = fixtures::rich("p1", HOST, 9000);
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
        edited(&|p| fixtures::service(p).policies = vec![policy.clone()]),
        edited(&|p| fixtures::service(p).policies = vec![rate.clone()]),
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

/// What connects without a call is not judged by the router's filter, and a cluster with filters of
/// its own would leave that filter out.
#[test]
fn no_cluster_connects_without_being_judged() {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
    use prost::Message as _;
    let delta = open().set_publish(parsed(&fixtures::rich("p1", HOST, 9000)));
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
