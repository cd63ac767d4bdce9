//! Policies that Envoy enforces by itself.

use imp_proto::config as pb;
use imp_translate::Layout;
use pb::policy::Kind;

use super::HOST;
use super::rig::{Answer, Rig};
use crate::fixtures::{self, exact, parsed, prefix, route, value};

fn policy(kind: Kind) -> pb::Policy {
    pb::Policy { id: "p".into(), kind: Some(kind) }
}

fn access(allow: &[&str], deny: &[&str]) -> pb::Policy {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    policy(Kind::IpAccess(pb::IpAccess { allow: texts(allow), deny: texts(deny) }))
}

/// Serves one service with these routes and this policy of its own.
pub(super) async fn serving(routes: Vec<pb::Route>, of_service: Option<pb::Policy>) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    let service = fixtures::service(&mut publish);
    service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    service.routes = routes;
    service.policies = of_service.into_iter().collect();
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
    rig
}

#[tokio::test]
async fn a_call_comes_in_by_its_address_before_its_credential_is_looked_at() {
    let with = |id: &str, policy: Option<pb::Policy>| {
        let mut route = route(id, prefix(&format!("/{id}")));
        route.policies = policy.into_iter().collect();
        route
    };
    let routes = vec![
        with("inherits", None),
        with("allowed", Some(access(&["10.0.0.0/8", "127.0.0.0/8"], &[]))),
        with("denied", Some(access(&[], &["127.0.0.1"]))),
        with("mapped", Some(access(&[], &["::ffff:127.0.0.1"]))),
        with("excepted", Some(access(&["127.0.0.0/8"], &["127.0.0.0/16"]))),
        with("elsewhere", Some(access(&[], &["10.0.0.0/8", "2001:db8::/32"]))),
    ];
    let rig = serving(routes, Some(access(&["10.0.0.0/8"], &[]))).await;
    for path in ["allowed", "elsewhere"] {
        let answer = rig.with_key(HOST, &format!("GET /{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(rig.call(HOST, &format!("GET /{path}")).await.status, 401, "{path}");
    }
    rig.stub.checks.lock().unwrap().clear();
    for path in ["inherits", "denied", "mapped", "excepted"] {
        for spoof in ["", "\nx-forwarded-for: 10.1.2.3", "\nforwarded: for=10.1.2.3"] {
            let answer = rig.with_key(HOST, &format!("GET /{path}{spoof}")).await;
            assert_eq!(answer.status, 403, "{path}{spoof}: {answer:?}");
            assert_eq!(answer.problem().as_deref(), Some("address_not_allowed"), "{answer:?}");
        }
    }
    assert!(rig.stub.checks.lock().unwrap().is_empty(), "nobody was asked about a credential");
}

fn cors() -> pb::Policy {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    policy(Kind::Cors(pb::Cors {
        allow_origins: texts(&["https://app.example.com", "https://*.partner.example"]),
        allow_methods: texts(&["GET", "PUT"]),
        allow_headers: texts(&["x-api-key", "content-type"]),
        expose_headers: texts(&["x-request-id"]),
        max_age_seconds: Some(600),
        allow_credentials: true,
    }))
}

fn preflight(path: &str, origin: &str, method: &str) -> String {
    format!("OPTIONS {path}\norigin: {origin}\naccess-control-request-method: {method}")
}

fn allowed_origin(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

async fn shop() -> Rig {
    let mut items = route("items", prefix("/items"));
    items.methods = vec!["GET".into(), "PUT".into()];
    let mut versioned = route("versioned", exact("/versioned"));
    versioned.headers = vec![value("x-version", pb::value_match::Kind::Exact("2".into()))];
    let open = route("open", prefix("/open"));
    serving(vec![items, versioned, open], Some(cors())).await
}

#[tokio::test]
async fn preflights_are_answered_for_the_routes_that_they_ask_about() {
    let rig = shop().await;
    for path in ["/items/1?page=2", "/versioned", "/open"] {
        for origin in ["https://app.example.com", "https://eu.app.partner.example"] {
            let answer = rig.call(HOST, &preflight(path, origin, "GET")).await;
            assert_eq!(answer.status, 200, "{path} {origin}: {answer:?}");
            assert_eq!(allowed_origin(&answer), Some(origin), "{answer:?}");
            for (name, value) in [
                ("access-control-allow-methods", "GET,PUT"),
                ("access-control-allow-headers", "x-api-key,content-type"),
                ("access-control-allow-credentials", "true"),
                ("access-control-max-age", "600"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{answer:?}");
            }
            assert_eq!(answer.header("x-upstream"), None, "{answer:?}");
        }
        for origin in [
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://partner.example",
            "https://evilpartner.example",
            "http://app.example.com",
            "null",
        ] {
            let answer = rig.call(HOST, &preflight(path, origin, "GET")).await;
            assert_eq!(allowed_origin(&answer), None, "{path} {origin}: {answer:?}");
            assert_eq!(answer.header("x-upstream"), None, "{answer:?}");
        }
    }
    assert!(rig.stub.checks.lock().unwrap().is_empty(), "a preflight has no credential");
    // A preflight does not open paths without a route.
    for (request, code) in [
        (preflight("/items", "https://app.example.com", "DELETE"), "method_not_allowed"),
        (preflight("/nothing", "https://app.example.com", "GET"), "no_route"),
        ("OPTIONS /items".to_owned(), "method_not_allowed"),
        ("OPTIONS /items\norigin: https://app.example.com".to_owned(), "method_not_allowed"),
        ("OPTIONS /items\naccess-control-request-method: GET".to_owned(), "method_not_allowed"),
        (preflight("/items", "", "GET"), "method_not_allowed"),
    ] {
        let answer = rig.with_key(HOST, &request).await;
        assert_eq!(answer.problem().as_deref(), Some(code), "{request}: {answer:?}");
        assert_eq!(answer.header("x-upstream"), None, "{request}: {answer:?}");
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers_refusals_too() {
    let rig = shop().await;
    let get = |origin: &str| format!("GET /items\norigin: {origin}");
    let answer = rig.with_key(HOST, &get("https://app.example.com")).await;
    assert_eq!((answer.status, allowed_origin(&answer)), (200, Some("https://app.example.com")));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-request-id"));
    let refused = rig.call(HOST, &get("https://app.example.com")).await;
    assert_eq!((refused.status, allowed_origin(&refused)), (401, Some("https://app.example.com")));
    let answer = rig.with_key(HOST, &get("https://evil.example")).await;
    assert_eq!((answer.status, allowed_origin(&answer)), (200, None), "{answer:?}");
    let answer = rig.with_key(HOST, "GET /items").await;
    assert_eq!((answer.status, allowed_origin(&answer)), (200, None), "{answer:?}");
}
