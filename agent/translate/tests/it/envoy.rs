//! Envoy accepts every resource that we render, and policies take effect.

mod checks;
mod conditions;
mod documented;
mod edge;
mod hostile;
mod http2;
mod policies;
mod refusals;
mod retries;
mod rewrites;
mod rig;
pub(crate) mod routing;
mod settings;
mod streams;
mod stub;
mod tables;
mod tls;
mod upstreams;
mod warming;

use std::sync::atomic::Ordering;

use envoy_types::pb::envoy::config::route::v3::ScopedRouteConfiguration;
use imp_grammar::caps;
use imp_proto::config as pb;
use imp_translate::{Layout, xds};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use prost::Message as _;
use rig::Rig;

use crate::fixtures::{self, parsed};
use crate::golden;

const HOST: &str = "api.example.com";

async fn rich() -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p1", HOST, rig.upstream)));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
    rig
}

/// As large as the API and the agent accept them; Envoy's own default would refuse a path of 100
/// bytes.
#[tokio::test]
async fn the_largest_expressions_and_templates_are_served() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    let template = format!("/{{x}}/{}", "a".repeat(caps::PATH_BYTES.size() - 5));
    let most = caps::REGEX_PROGRAM.size();
    let expressions = [
        format!("/[a-z]{{{}}}", most - 1),
        format!("/{}", "b".repeat(most - 1)),
        format!("/c[^/]{{{}}}", (most - 2) / 7),
        format!("/d\\W{{{}}}", (most - 2) / 11),
        format!("/e(?:[a-z]|x){{0,{}}}", (most - 2) / 5),
        r"/\pL\pL\pL".to_owned(),
    ];
    let service = fixtures::service(&mut publish);
    service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    service.routes = vec![fixtures::route("template", fixtures::template(&template))];
    for (index, expression) in expressions.iter().enumerate() {
        imp_grammar::regexes::check(expression).unwrap();
        service.routes.push(fixtures::route(&format!("r{index}"), fixtures::regex(expression)));
    }
    publish.base_path = format!("/{}", "v".repeat(caps::PATH_BYTES.size() - 1));
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
    let path = format!("{}/q/{}", publish.base_path, "a".repeat(caps::PATH_BYTES.size() - 5));
    let answer = rig.with_key(HOST, &format!("GET {path}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn routes_match_rewrite_and_split_as_written() {
    let rig = rich().await;
    let served = [
        ("GET /v1/exact", "GET /v1/exact "),
        ("GET /v1/exact?q=1", "GET /v1/exact?q=1 "),
        ("GET /v1/pay", "GET /v1/pay "),
        ("GET /v1/pay/x", "GET /v1/pay/x "),
        ("GET /v1/users/7/cards", "GET /v1/users/7/cards "),
        ("GET /v1/re42/x", "GET /v1/re42/x "),
        ("PUT /v1/method", "PUT /v1/method "),
        ("DELETE /v1/method", "DELETE /v1/method "),
        ("GET /v1/header\nx-a: 1\nx-b: bee\nx-c: ccc\nx-d: any", "GET /v1/header "),
        ("GET /v1/query?a=1", "GET /v1/query?a=1 "),
        ("GET /v1/strip", "GET / "),
        ("GET /v1/strip/a/b?q=1", "GET /a/b?q=1 "),
        ("GET /v1/swap", "GET /other "),
        ("GET /v1/swap/a", "GET /other/a "),
        ("GET /v1/whole/a?q=1", "GET /fixed?q=1 "),
        ("GET /v1/split", "GET /v1/split "),
        ("GET /v1//pay/../pay", "GET /v1/pay "),
    ];
    for (request, line) in served {
        let answer = rig.with_key(HOST, request).await;
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        assert!(answer.body.starts_with(line), "{request}: {answer:?}");
    }
    let unknown = [
        "GET /",
        "GET /v1",
        "GET /exact",
        "GET /v1/exact/",
        "GET /v1/payments",
        "GET /v1/users/7/8/cards",
        "GET /v1/users//cards",
        "GET /v1/re/x",
        "GET /v1/header\nx-a: 1\nx-b: bee\nx-c: ccc",
        "GET /v1/header\nx-a: 1\nx-b: bee\nx-c: ccc\nx-d: any\nx-e: there",
        "GET /v1/query?a=2",
        "GET /v1/query?a=1&b=",
    ];
    for request in unknown {
        let answer = rig.with_key(HOST, request).await;
        assert_eq!((answer.status, answer.problem()), (404, Some("no_route".into())), "{request}");
        assert!(answer.body.contains(r#""status":404"#), "{answer:?}");
    }
}

/// RFC 9110, sections 15.5.6 and 9.3.2. No credential is required: the answer tells as little as a
/// 404.
#[tokio::test]
async fn a_wrong_method_is_405_with_allow_and_head_follows_get() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    publish.base_path = "/v1".into();
    let service = fixtures::service(&mut publish);
    service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    let with = |id: &str, path, methods: &[&str]| {
        let mut route = fixtures::route(id, path);
        route.methods = methods.iter().map(|&method| method.to_owned()).collect();
        route
    };
    let (exact, template) = (fixtures::exact, fixtures::template);
    let mut versioned = with("versioned", exact("/versioned"), &["GET"]);
    versioned.headers = vec![fixtures::value("x-v", pb::value_match::Kind::Exact("2".into()))];
    let mut conditional = with("conditional", exact("/both"), &[]);
    conditional.headers = versioned.headers.clone();
    service.routes = vec![
        with("get", exact("/g"), &["GET"]),
        with("read", template("/items/{id}"), &["GET"]),
        with("write", template("/items/{id}"), &["PUT", "DELETE"]),
        with("me", exact("/items/me"), &["POST"]),
        with("own-get", exact("/own"), &["GET"]),
        with("own-head", exact("/own"), &["HEAD"]),
        with("any", exact("/any"), &["GET"]),
        with("any-other", exact("/any"), &[]),
        with("regex", fixtures::regex("/re[0-9]+"), &["POST"]),
        with("prefix", fixtures::prefix("/under"), &["PATCH"]),
        versioned,
        with("plain", exact("/both"), &["GET"]),
        conditional,
    ];
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
    for (request, route) in [
        ("GET /v1/g", "get"),
        ("HEAD /v1/g", "get"),
        ("HEAD /v1/items/7", "read"),
        ("DELETE /v1/items/7", "write"),
        ("GET /v1/items/me", "read"),
        ("PUT /v1/items/me", "write"),
        ("HEAD /v1/own", "own-head"),
        ("HEAD /v1/any", "any-other"),
        ("DELETE /v1/any", "any-other"),
        ("HEAD /v1/both", "plain"),
        ("HEAD /v1/both\nx-v: 2", "conditional"),
        ("POST /v1/re7", "regex"),
        ("PATCH /v1/under/x", "prefix"),
        ("GET /v1/versioned\nx-v: 2", "versioned"),
    ] {
        let answer = rig.with_key(HOST, request).await;
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        let seen = rig.stub.checks.lock().unwrap().pop().unwrap();
        assert_eq!(seen["route"], route, "{request}");
    }
    for (request, allow) in [
        ("POST /v1/g", "GET, HEAD"),
        ("POST /v1/g?a=1", "GET, HEAD"),
        ("OPTIONS /v1/g", "GET, HEAD"),
        ("POST /v1/items/7", "GET, HEAD, PUT, DELETE"),
        ("DELETE /v1/own", "GET, HEAD"),
        ("GET /v1/re7", "POST"),
        ("POST /v1/under", "PATCH"),
        ("POST /v1/under/x", "PATCH"),
        ("PATCH /v1/items/me", "POST"),
        ("POST /v1/versioned\nx-v: 2", "GET, HEAD"),
    ] {
        let answer = rig.call(HOST, request).await;
        assert_eq!(answer.status, 405, "{request}: {answer:?}");
        assert_eq!(answer.problem().as_deref(), Some("method_not_allowed"), "{answer:?}");
        assert_eq!(answer.header("allow"), Some(allow), "{request}");
    }
    for request in ["GET /v1/versioned", "GET /v1/gg", "POST /v1/re", "POST /g", "TRACE /v1/g"] {
        let answer = rig.with_key(HOST, request).await;
        assert_eq!((answer.status, answer.problem()), (404, Some("no_route".into())), "{request}");
    }
}

#[tokio::test]
async fn hosts_are_exact_with_port_and_dot_stripped() {
    let rig = rich().await;
    for host in ["api.example.com", "api.example.com:8443", "api.example.com."] {
        assert_eq!(rig.with_key(host, "GET /v1/pay").await.status, 200, "{host}");
    }
    for host in ["other.example.com", "example.com", "*", "localhost"] {
        let answer = rig.with_key(host, "GET /v1/pay").await;
        assert_eq!((answer.status, answer.problem()), (404, Some("no_route".into())), "{host}");
    }
    let spoof = format!("GET /v1/pay\nx-imp-gw: {}\nx-imp-host: {HOST}", fixtures::GATEWAY);
    assert_eq!(rig.with_key("other.example.com", &spoof).await.status, 404);
}

#[tokio::test]
async fn upstreams_see_identity_and_policies_but_no_credential_and_no_spoof() {
    let rig = rich().await;
    let answer = rig
        .with_key(
            HOST,
            "GET /v1/team\nx-imp-consumer: evil\nX-IMP-Plan: evil\nx-forwarded-host: evil\n\
             x-real-ip: evil\nforwarded: evil\nx-team: mine",
        )
        .await;
    assert!(answer.body.contains("x-imp-consumer: c1\r\n"), "{answer:?}");
    assert!(answer.body.contains("x-team: service\r\n"), "{answer:?}");
    assert!(answer.body.contains("x-share: 100%\r\n"), "{answer:?}");
    for hidden in ["evil", "good", "x-imp-gw", "x-imp-host", "mine"] {
        assert!(!answer.body.contains(hidden), "{hidden}: {answer:?}");
    }
    assert_eq!(answer.header("server"), Some("imp"));
    assert!(answer.header("x-request-id").is_some());
    let answer = rig.with_key(HOST, "GET /v1/policies\nx-secret: s\nx-more: 0").await;
    assert!(answer.body.contains("x-team: route\r\n"), "the route's policy replaces: {answer:?}");
    assert!(!answer.body.contains("x-share"), "whole: {answer:?}");
    assert!(answer.body.contains("x-more: 0\r\n"), "beside what is there: {answer:?}");
    assert!(answer.body.contains("x-more: 1\r\n"), "beside what is there: {answer:?}");
    assert!(!answer.body.contains("x-secret"), "{answer:?}");
    assert_eq!(answer.header("x-served-by"), Some("imp"));
    assert_eq!(answer.header("x-upstream"), None);
    let answer = rig.with_key(HOST, "GET /v1/strip").await;
    assert!(answer.body.contains("host: up.internal\r\n"), "{answer:?}");
}

#[tokio::test]
async fn the_door_decides_and_is_closed_when_it_is_broken() {
    let rig = rich().await;
    let answer = rig.call(HOST, "GET /v1/pay").await;
    assert_eq!((answer.status, answer.problem()), (401, Some("unauthenticated".into())));
    let seen = rig.stub.checks.lock().unwrap().pop().unwrap();
    assert_eq!(seen.get("publish").map(String::as_str), Some("p1"));
    assert_eq!(seen.get("route").map(String::as_str), Some("r-prefix"));
    let grpc = "POST /v1/pay\ncontent-type: application/grpc\ncontent-length: 0";
    let answer = rig.call(HOST, grpc).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("16")), "{answer:?}");
    rig.stub.door_broken.store(true, Ordering::Relaxed);
    let answer = rig.with_key(HOST, "GET /v1/pay").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.problem().as_deref(), Some("enforcement_unavailable"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let answer = rig.with_key(HOST, grpc).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")), "{answer:?}");
}

#[tokio::test]
async fn a_suspended_publish_is_503_without_asking_the_door() {
    let mut rig = rich().await;
    let mut suspended = golden::rich("p1", HOST, rig.upstream);
    suspended.suspended = true;
    suspended.revision = 2;
    let delta = rig.assembly.set_publish(parsed(&suspended));
    rig.apply(&delta);
    rig.active("p1").await;
    rig.stub.door_broken.store(true, Ordering::Relaxed);
    for path in ["/v1", "/v1/pay", "/v1/unknown"] {
        let answer = rig.call(HOST, &format!("GET {path}")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.problem().as_deref(), Some("publish_suspended"), "{answer:?}");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.body.contains(&format!(r#""request_id":"{id}""#)), "{answer:?}");
    }
    assert_eq!(rig.call(HOST, "GET /").await.status, 404);
}

#[tokio::test]
async fn publishes_share_a_host_by_base_path_and_do_not_leak_into_each_other() {
    let mut rig = rich().await;
    let mut root = fixtures::publish("p0", HOST, 1);
    fixtures::service(&mut root).backends =
        vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    let delta = rig.assembly.set_publish(parsed(&root));
    rig.apply(&delta);
    rig.active("p0").await;
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
    assert_eq!(rig.stub.checks.lock().unwrap().pop().unwrap()["publish"], "p1");
    assert_eq!(rig.with_key(HOST, "GET /v11").await.status, 200);
    assert_eq!(rig.stub.checks.lock().unwrap().pop().unwrap()["publish"], "p0");
    let answer = rig.with_key(HOST, "GET /v1/payments").await;
    assert_eq!((answer.status, answer.problem()), (404, Some("no_route".into())), "{answer:?}");
}

/// The reference: the longest base path that contains the path, in whole segments.
fn owner<'a>(bases: &[&'a str], path: &str) -> Option<&'a str> {
    let path = path.split('?').next().unwrap_or(path);
    let holds = |base: &&&str| match **base {
        "/" => true,
        base => {
            path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    bases.iter().filter(holds).max_by_key(|base| base.trim_end_matches('/').len()).copied()
}

/// Few base paths are rendered as a list, many as a tree; callers see no difference.
#[tokio::test]
async fn the_deepest_base_path_owns_a_call_however_many_there_are() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let bases = [
        "/v1",
        "/v11",
        "/v1/pay",
        "/v1/pay/x",
        "/v1/payments",
        "/a.b",
        "/a",
        "/a/b/c",
        "/z",
        "/z-1",
        "/z/1",
        "/",
    ];
    let paths = [
        "/",
        "/v1",
        "/v1/",
        "/v1?q=/v11/",
        "/v1/x",
        "/v11",
        "/v111",
        "/v1/pay",
        "/v1/pay?q",
        "/v1/pay/",
        "/v1/pay/x",
        "/v1/pay/x/y",
        "/v1/pay/xy",
        "/v1/payments/1",
        "/v1/paymentsx",
        "/a.b",
        "/axb",
        "/a/b",
        "/a/b/c",
        "/a/b/c/d",
        "/z-1/x",
        "/z-",
        "/z/1?",
        "/zz",
        "/nothing/at/all",
    ];
    for (index, base) in bases.iter().enumerate() {
        let mut publish = fixtures::publish(&format!("p{index}"), HOST, 1);
        publish.base_path = (*base).into();
        let service = fixtures::service(&mut publish);
        service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
        // "/z" owns more than it has routes for.
        if *base == "/z" {
            service.routes = vec![fixtures::route("r1", fixtures::exact("/"))];
        }
        let delta = rig.assembly.set_publish(parsed(&publish));
        rig.apply(&delta);
        rig.active(&publish.id).await;
        let there = &bases[..=index];
        if ![4, 8, 9, bases.len()].contains(&there.len()) {
            continue;
        }
        for path in paths {
            let owner = owner(there, path);
            let served = owner.filter(|base| *base != "/z" || path == "/z");
            let answer = rig.with_key(HOST, &format!("GET {path}")).await;
            let judged = rig.stub.checks.lock().unwrap().drain(..).next_back();
            let by = judged.map(|check| check["publish"].clone());
            let expected = served.and_then(|base| there.iter().position(|b| *b == base));
            let status = if served.is_some() { 200 } else { 404 };
            assert_eq!(answer.status, status, "{path} with {there:?}: {answer:?}");
            assert_eq!(by, expected.map(|index| format!("p{index}")), "{path} with {there:?}");
        }
    }
    let trace = rig.with_key(HOST, "TRACE /v1/x").await;
    assert_eq!((trace.status, trace.problem()), (404, Some("no_route".into())), "{trace:?}");
    assert_eq!(rig.refusals, []);
}

#[tokio::test]
async fn a_listener_with_a_hostname_serves_that_host_only() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let mut gateway = fixtures::gateway(rig.port);
    gateway.listeners[0].hostname = HOST.into();
    let delta = rig.assembly.set_gateway(imp_translate::ir::Gateway::parse(&gateway).unwrap());
    rig.apply(&delta);
    for (id, host) in [("p2", "other.example.com"), ("p1", HOST)] {
        let delta = rig.assembly.set_publish(parsed(&golden::rich(id, host, rig.upstream)));
        rig.apply(&delta);
    }
    rig.active("p1").await;
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key("api.example.com:80", "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key("api.example.com.", "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key("other.example.com", "GET /v1/pay").await.status, 404);
}

#[tokio::test]
async fn what_only_envoy_refuses_falls_back_alone() {
    let mut rig = rich().await;
    let mut fine = fixtures::publish("p2", HOST, 1);
    fine.base_path = "/fine".into();
    let mut poisoned = fixtures::publish("p3", HOST, 1);
    poisoned.base_path = "/poisoned".into();
    // The parser accepts it; RE2 does not know this escape.
    fixtures::service(&mut poisoned).routes =
        vec![fixtures::route("r", fixtures::regex(r"/\u0041"))];
    for publish in [&mut fine, &mut poisoned] {
        fixtures::service(publish).backends =
            vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    }
    // Both arrive before Envoy has judged either.
    let mut delta = rig.assembly.set_publish(parsed(&poisoned));
    let second = rig.assembly.set_publish(parsed(&fine));
    delta.all.upserts.extend(second.all.upserts);
    rig.apply(&delta);
    rig.until(|_, assembly| assembly.refused("p3").is_some()).await;
    assert_eq!(rig.blames.len(), 1, "{:?}", rig.blames);
    assert_eq!((rig.blames[0].publish_id.as_str(), rig.blames[0].revision), ("p3", 1));
    let words = rig.refusals.last().unwrap();
    assert!(words.1.contains("invalid escape sequence"), "Envoy's own words: {words:?}");
    if rig.with_key(HOST, "GET /fine").await.status != 200 {
        rig.active("p2").await;
    }
    assert_eq!(rig.with_key(HOST, "GET /fine").await.status, 200);
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key(HOST, "GET /poisoned").await.status, 404);
    fixtures::service(&mut poisoned).routes = vec![fixtures::route("r", fixtures::prefix("/"))];
    poisoned.revision = 2;
    let delta = rig.assembly.set_publish(parsed(&poisoned));
    rig.apply(&delta);
    rig.active("p3").await;
    assert_eq!(rig.with_key(HOST, "GET /poisoned").await.status, 200);
}

/// Envoy accepts whatever the parser accepts; otherwise tenants would learn of the error late.
#[tokio::test]
async fn envoy_takes_whatever_the_parser_takes() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut runner = TestRunner::deterministic();
    let strategy = crate::random::publish();
    for index in 0..150 {
        let mut publish = strategy.new_tree(&mut runner).unwrap().current();
        publish.id = format!("p{index}");
        publish.gateway_id = fixtures::GATEWAY.into();
        publish.hostnames = vec![format!("h{index}.test")];
        let delta = rig.assembly.set_publish(parsed(&publish));
        rig.apply(&delta);
    }
    rig.active("p149").await;
    assert_eq!(rig.refusals, []);
    assert_eq!(rig.blames, []);
}

/// After a rejection Envoy ignores the same bytes, although it does not run with them.
#[test]
fn a_scope_that_is_sent_again_differs_in_its_stamp_only() {
    let mut assembly = fixtures::assembly();
    assembly.set_gateway(fixtures::parsed_gateway(8080));
    let delta = assembly.set_publish(parsed(&fixtures::publish("p1", HOST, 1)));
    let scope = delta.all.upserts.into_iter().find(|r| r.type_url == xds::SCOPE).unwrap();
    let first = xds::scope::restamp(&scope.value, 1).unwrap();
    let second = xds::scope::restamp(&first, 2).unwrap();
    assert!(first != scope.value && second != first);
    let name = |bytes: &[u8]| {
        let scope = ScopedRouteConfiguration::decode(bytes).unwrap();
        let routes = scope.route_configuration.clone().unwrap();
        let rest = ScopedRouteConfiguration { route_configuration: None, ..scope };
        (routes.name, routes.virtual_hosts, rest)
    };
    let (plain, hosts, rest) = name(&scope.value);
    assert_eq!(name(&second), (format!("{plain}~2"), hosts, rest));
    assert!(xds::scope::restamp(b"no scope", 1).is_err());
}

#[tokio::test]
async fn no_change_of_a_publish_touches_the_listener() {
    let mut rig = rich().await;
    for revision in 2..22_u64 {
        let mut publish = golden::rich("p1", HOST, rig.upstream);
        publish.revision = revision;
        publish.suspended = revision % 3 == 0;
        fixtures::service(&mut publish).routes.truncate(usize::try_from(revision % 5 + 1).unwrap());
        let delta = rig.assembly.set_publish(parsed(&publish));
        rig.apply(&delta);
        rig.active("p1").await;
    }
    assert_eq!(rig.counter("listener_manager.lds.update_success").await, 1);
    assert_eq!(rig.counter("listener_manager.listener_modified").await, 0);
    assert_eq!(rig.counter("listener_manager.total_listeners_draining").await, 0);
    assert_eq!(rig.refusals, []);
}

#[tokio::test]
async fn the_usual_layout_serves_the_same() {
    let mut rig = Rig::start(Layout::WholeRds).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p1", HOST, rig.upstream)));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key("other.example.com", "GET /v1/pay").await.status, 404);
    assert_eq!(rig.call(HOST, "GET /v1/pay").await.status, 401);
    let second: pb::Publish = golden::rich("p2", "other.example.com", rig.upstream);
    let delta = rig.assembly.set_publish(parsed(&second));
    rig.apply(&delta);
    rig.active("p2").await;
    assert_eq!(rig.with_key("other.example.com", "GET /v1/pay").await.status, 200);
    assert_eq!(rig.refusals, []);
}
