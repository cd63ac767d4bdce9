//! Settings of routes and backends for calls: written, read again, and sent to agents that know
//! them.

use imp_grammar::features;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, shows};
use crate::control_plane::{ControlPlane, Shop, payment_service};

/// The shop's service with these fields in its first route and its backend.
fn service(route: &Value, backend: &Value) -> Value {
    let mut service = payment_service();
    let fields = |into: &mut Value, fields: &Value| {
        into.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    };
    fields(&mut service["routes"][0], route);
    fields(&mut service["backends"][0], backend);
    service
}

/// Each feature with the fields that need it.
fn needs() -> [(&'static str, Value, Value); 12] {
    let none = || json!({});
    let template = |text: &str| json!({ "path": { "template": text } });
    let path = json!({ "template": "/payments/{id}" });
    let strip = json!({ "rewrite": { "strip_base_path": true } });
    [
        (features::PATHS, template("/payments/{id}.json"), none()),
        (features::PATHS, template("/payments/{rest+}"), none()),
        (features::PATHS, template("/payments/{payment-id}"), none()),
        (features::PATHS, json!({ "path": { "exact": "/pay%20ments" } }), none()),
        (features::PATHS, json!({ "path": { "prefix": "/결제" } }), none()),
        (features::REWRITES, strip, none()),
        (features::REWRITES, json!({ "path": path, "rewrite": { "path": "/v2/{id}" } }), none()),
        (features::STREAMS, json!({ "stream": true, "upgrades": ["spdy/3.1"] }), none()),
        (features::RETRIES, none(), json!({ "retries": { "attempts": 0 } })),
        (features::OUTLIER_DETECTION, none(), json!({ "outlier_detection": { "enabled": false } })),
        (features::HEALTH_CHECK, none(), json!({ "health_check": { "path": "/healthz" } })),
        (features::UPSTREAM_TLS, none(), json!({ "tls": { "sni": "up.example.com" } })),
    ]
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connected_agent_would_ignore_is_refused(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let seen_at = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let redeploy = format!("{}/redeploy", shop.path("product-publishes"));
    let (types, classes) = (["rate_limit"], ["envoy-gateway"]);
    for (number, (feature, route, backend)) in needs().into_iter().enumerate() {
        let lesser: Vec<_> = features::ALL.into_iter().filter(|it| *it != feature).collect();
        let put = service(&route, &backend);
        shop.provider.put(&shop.path("api-services"), put).await.ok();
        for (version, known, good) in [("old", &lesser[..], false), ("new", &features::ALL, true)] {
            let version = format!("{number}-{version}");
            report.serves(&version, &types, &classes, known, &[]).await;
            shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == *version).await;
            let answer = shop.provider.step(&redeploy).await;
            if good {
                answer.ok();
                continue;
            }
            let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
            answer.refused(422, "unsupported_by_agents", "/api_services");
            assert!(detail.contains(&format!("'{feature}'")), "{detail}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_every_agent_reads_need_no_feature() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.serves("old", &["rate_limit"], &["envoy-gateway"], &[], &[]).await;
    let seen_at = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == "old").await;
    let kinds =
        [("exact", "/a:b/"), ("prefix", "/a-b"), ("template", "/{a_1}/b"), ("regex", "/%41+")];
    for (kind, text) in kinds {
        let put = service(&json!({ "path": { kind: text } }), &json!({}));
        shop.provider.put(&shop.path("api-services"), put).await.ok();
        shop.provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
    }
}

#[tokio::test]
async fn what_is_written_is_read_and_what_is_wrong_is_pointed_at() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("api-services");
    let backend = json!({
        "retries": { "attempts": 3 },
        "outlier_detection": { "enabled": true, "consecutive_failures": 2, "ejection_ms": 5_000 },
        "health_check": { "path": "/healthz", "interval_ms": 5_000 },
        "tls": { "sni": "up.example.com", "insecure": true },
    });
    let route = json!({ "stream": true, "idle_timeout_ms": 60_000, "upgrades": ["websocket"] });
    let mut written = service(&route, &backend);
    written["routes"][1]["rewrite"] =
        json!({ "path": null, "host": "a.example.com", "strip_base_path": true });
    let read = shop.provider.put(&path, written.clone()).await.ok();
    assert_eq!(read["routes"][0]["upgrades"], json!(["websocket"]));
    assert_eq!(read["routes"][1]["rewrite"], written["routes"][1]["rewrite"]);
    for field in ["retries", "outlier_detection", "health_check", "tls"] {
        assert_eq!(read["backends"][0][field], backend[field], "{field}");
    }
    let wrong = [
        (
            json!({ "rewrite": { "path": "/{id}" } }),
            json!({}),
            "unknown_variable",
            "/routes/0/rewrite/path",
        ),
        (
            json!({ "upgrades": ["h2c"], "stream": true }),
            json!({}),
            "invalid_upgrade",
            "/routes/0/upgrades/0",
        ),
        (json!({ "stream": true, "timeout_ms": 1 }), json!({}), "conflict", "/routes/0/timeout_ms"),
        (
            json!({}),
            json!({ "retries": { "attempts": 6 } }),
            "out_of_range",
            "/backends/0/retries/attempts",
        ),
        (json!({}), json!({ "tls": { "ca": "x" } }), "invalid_certificates", "/backends/0/tls/ca"),
    ];
    for (route, backend, code, pointer) in wrong {
        let answer = shop.provider.put(&path, service(&route, &backend)).await;
        answer.refused(422, code, pointer);
    }
    let unknown = service(&json!({}), &json!({ "tls": { "verify": false } }));
    assert_eq!(shop.provider.put(&path, unknown).await.status, 400);
}
