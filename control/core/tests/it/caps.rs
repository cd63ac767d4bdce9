//! Caps of inputs: exactly as much as the cap passes, one more is the typed error.

use imp_core::Check;
use imp_core::api_service::ApiServiceSpec;
use imp_core::api_token::ApiTokenSpec;
use imp_core::cluster::ClusterSpec;
use imp_core::customer::CustomerSpec;
use imp_core::gateway::GatewaySpec;
use imp_core::plan::PlanSpec;
use imp_core::product::ProductSpec;
use imp_core::product_publish::ProductPublishSpec;
use imp_grammar::caps::{self, Cap};
use serde_json::{Value, json};

const ID: &str = "0197a0c4-9c54-7d2e-8f4e-3c1f6f0f0a11";

fn faults<T: Check + serde::de::DeserializeOwned>(input: Value) -> Vec<String> {
    let spec: T = serde_json::from_value(input).unwrap();
    let found = spec.checked().err().unwrap_or_default();
    found.iter().map(|fault| format!("{} {}", fault.pointer, fault.code)).collect()
}

/// Checks an input from `make` at the cap and one beyond it. Returns the fault.
#[track_caller]
fn ends_at<T: Check + serde::de::DeserializeOwned>(
    cap: &Cap,
    fault: &str,
    make: impl Fn(usize) -> Value,
) {
    assert_eq!(faults::<T>(make(cap.size())), Vec::<String>::new(), "{}", cap.name);
    assert_eq!(faults::<T>(make(cap.size() + 1)), [fault], "{}", cap.name);
}

fn many(length: usize, item: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..length).map(item).collect()
}

fn backend(name: &str, endpoints: usize) -> Value {
    let endpoints = many(endpoints, |i| json!({"host": "up.example.com", "port": 80 + i}));
    json!({"name": name, "endpoints": endpoints})
}

fn route(name: &str) -> Value {
    json!({"name": name, "path": {"prefix": format!("/{name}")}, "backend_id": "b0"})
}

fn service(fields: Value) -> Value {
    let mut service = json!({
        "name": "s", "backends": [backend("b0", 1)], "routes": [route("r0")],
    });
    for (name, value) in fields.as_object().unwrap() {
        service[name] = value.clone();
    }
    service
}

fn with_route(fields: Value) -> Value {
    let mut route = route("r0");
    for (name, value) in fields.as_object().unwrap() {
        route[name] = value.clone();
    }
    service(json!({ "routes": [route] }))
}

#[test]
fn lists_of_a_service_end_at_their_caps() {
    ends_at::<ApiServiceSpec>(&caps::ROUTES_PER_SERVICE, "/routes too_many", |n| {
        service(json!({"routes": many(n, |i| route(&format!("r{i}")))}))
    });
    ends_at::<ApiServiceSpec>(&caps::BACKENDS_PER_SERVICE, "/backends too_many", |n| {
        service(json!({"backends": many(n, |i| backend(&format!("b{i}"), 1))}))
    });
    ends_at::<ApiServiceSpec>(
        &caps::ENDPOINTS_PER_BACKEND,
        "/backends/0/endpoints too_many",
        |n| service(json!({"backends": [backend("b0", n)]})),
    );
    let routes = many(200, |i| route(&format!("r{i}")));
    let kinds = ["request_headers", "response_headers", "rate_limit"];
    ends_at::<ApiServiceSpec>(&caps::POLICIES_PER_SERVICE, "/policies too_many", |n| {
        let policies = many(n, |i| {
            let kind = kinds[i % 3];
            let config = match kind {
                "rate_limit" => json!({"requests": 1, "per": "minute"}),
                _ => json!({}),
            };
            json!({"name": format!("p{i}"), "type": kind, "config": config, "route": format!("r{}", i / 3)})
        });
        service(json!({"routes": routes.clone(), "policies": policies}))
    });
}

#[test]
fn the_expressions_of_a_service_are_counted_before_any_is_read() {
    // Spread over paths, headers and query parameters of several routes.
    let with = |expressions: usize, text: &str| {
        let routes = many(expressions.div_ceil(3), |i| {
            let mut one = route(&format!("r{i}"));
            let left = expressions - i * 3;
            one["priority"] = json!(i);
            one["path"] = json!({"regex": text});
            if left > 1 {
                one["headers"] = json!([{"name": "a", "value": {"regex": text}}]);
            }
            if left > 2 {
                one["query"] = json!([{"name": "a", "value": {"regex": text}}]);
            }
            one
        });
        service(json!({ "routes": routes }))
    };
    let cap = &caps::REGEXES_PER_SERVICE;
    ends_at::<ApiServiceSpec>(cap, "/routes too_many_regexes", |n| with(n, "/a+"));
    // If it were parsed, it would be a fault of its own.
    assert_eq!(faults::<ApiServiceSpec>(with(cap.size() + 1, "(")), ["/routes too_many_regexes"]);
    assert_eq!(faults::<ApiServiceSpec>(with(1, "(")), ["/routes/0/path/regex invalid_regex"]);
}

#[test]
fn lists_of_a_route_end_at_their_caps() {
    let matchers = |n: usize| {
        let rule = |i: usize| json!({"name": format!("x{i}"), "value": {"present": true}});
        json!({"headers": many(n / 2, rule), "query": many(n - n / 2, rule)})
    };
    let fault = "/routes/0/query too_many";
    ends_at::<ApiServiceSpec>(&caps::MATCHERS_PER_ROUTE, fault, |n| with_route(matchers(n)));
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"];
    ends_at::<ApiServiceSpec>(&caps::METHODS_PER_ROUTE, "/routes/0/methods too_many", |n| {
        with_route(json!({"methods": methods[..n]}))
    });
    ends_at::<ApiServiceSpec>(&caps::BACKENDS_PER_ROUTE, "/routes/0/backends too_many", |n| {
        let split = many(n, |i| json!({"backend_id": format!("b{i}"), "weight": 1}));
        let mut one = route("r0");
        one["backend_id"] = Value::Null;
        one["backends"] = json!(split);
        service(json!({
            "backends": many(n, |i| backend(&format!("b{i}"), 1)), "routes": [one],
        }))
    });
}

#[test]
fn a_header_policy_ends_at_its_cap() {
    for kind in ["request_headers", "response_headers"] {
        let with = |set: usize, add: usize, remove: usize| {
            let header = |i: usize| json!({"name": format!("x-{i}"), "value": "v"});
            let config = json!({
                "set": many(set, header), "add": many(add, header),
                "remove": many(remove, |i| json!(format!("y-{i}"))),
            });
            service(json!({"policies": [{"name": "p", "type": kind, "config": config}]}))
        };
        let cap = &caps::HEADERS_PER_POLICY;
        ends_at::<ApiServiceSpec>(cap, "/policies/0/config/set too_many", |n| with(n, 0, 0));
        ends_at::<ApiServiceSpec>(cap, "/policies/0/config/add too_many", |n| with(10, n - 10, 0));
        let fault = "/policies/0/config/remove too_many";
        ends_at::<ApiServiceSpec>(cap, fault, |n| with(10, 10, n - 20));
    }
}

#[test]
fn access_and_cors_policies_end_at_their_caps() {
    let with = |kind: &str, config: Value| {
        service(json!({"policies": [{"name": "p", "type": kind, "config": config}]}))
    };
    let net = |i: usize| json!(format!("10.0.{}.0/24", i % 256));
    let cap = &caps::NETWORKS_PER_POLICY;
    ends_at::<ApiServiceSpec>(cap, "/policies/0/config/allow too_many", |n| {
        with("ip_access", json!({ "allow": many(n, net) }))
    });
    ends_at::<ApiServiceSpec>(cap, "/policies/0/config/deny too_many", |n| {
        with("ip_access", json!({ "allow": many(10, net), "deny": many(n - 10, net) }))
    });
    let cap = &caps::ORIGINS_PER_POLICY;
    ends_at::<ApiServiceSpec>(cap, "/policies/0/config/allow_origins too_many", |n| {
        let origins = many(n, |i| json!(format!("https://a{i}.example")));
        with("cors", json!({ "allow_origins": origins }))
    });
}

#[test]
fn texts_end_at_their_caps() {
    ends_at::<CustomerSpec>(
        &caps::NAME_CHARACTERS,
        "/name invalid_name",
        |n| json!({"name": "é".repeat(n)}),
    );
    ends_at::<ProductSpec>(
        &caps::DESCRIPTION_CHARACTERS,
        "/description too_long",
        |n| json!({"name": "p", "description": "é".repeat(n)}),
    );
    for kind in ["exact", "prefix", "template"] {
        let fault = format!("/routes/0/path/{kind} invalid_path");
        ends_at::<ApiServiceSpec>(&caps::PATH_BYTES, &fault, |n| {
            with_route(json!({"path": {kind: format!("/{}", "a".repeat(n - 1))}}))
        });
    }
    let fault = "/routes/0/headers/0/name invalid_header_name";
    ends_at::<ApiServiceSpec>(&caps::HEADER_NAME_BYTES, fault, |n| {
        with_route(json!({"headers": [{"name": "a".repeat(n), "value": {"present": true}}]}))
    });
    let fault = "/routes/0/headers/0/value too_long";
    ends_at::<ApiServiceSpec>(&caps::MATCH_VALUE_CHARACTERS, fault, |n| {
        with_route(json!({"headers": [{"name": "a", "value": {"exact": "a".repeat(n)}}]}))
    });
    let fault = "/policies/0/config/set/0/value invalid_header_value";
    ends_at::<ApiServiceSpec>(&caps::HEADER_VALUE_BYTES, fault, |n| {
        let config = json!({"set": [{"name": "a", "value": "a".repeat(n)}]});
        service(json!({"policies": [{"name": "p", "type": "request_headers", "config": config}]}))
    });
}

#[test]
fn lists_of_products_publishes_and_gateways_end_at_their_caps() {
    let ids = |n: usize| many(n, |i| json!(format!("{}{i:04x}", &ID[..32])));
    ends_at::<ProductSpec>(
        &caps::SERVICES_PER_PUBLISH,
        "/api_services too_many",
        |n| json!({"name": "p", "api_services": ids(n)}),
    );
    ends_at::<ProductSpec>(
        &caps::CATEGORIES_PER_PRODUCT,
        "/categories too_many",
        |n| json!({"name": "p", "categories": many(n, |i| json!(format!("c{i}")))}),
    );
    let publish = |services: usize, hostnames: usize| {
        json!({
            "product_id": ID, "gateway_id": ID, "cluster_id": ID, "environment": "prod",
            "auth_mode": "none", "api_services": ids(services),
            "hostnames": many(hostnames, |i| json!(format!("h{i}.example.com"))),
        })
    };
    let fault = "/api_services too_many";
    ends_at::<ProductPublishSpec>(&caps::SERVICES_PER_PUBLISH, fault, |n| publish(n, 1));
    let fault = "/hostnames too_many";
    ends_at::<ProductPublishSpec>(&caps::HOSTNAMES_PER_PUBLISH, fault, |n| publish(1, n));
    ends_at::<GatewaySpec>(&caps::LISTENERS_PER_GATEWAY, "/listeners too_many", |n| {
        let listener =
            |i: usize| json!({"name": format!("l{i}"), "port": 8000 + i, "protocol": "HTTP"});
        json!({"name": "g", "listeners": many(n, listener)})
    });
    ends_at::<GatewaySpec>(&caps::TRUSTED_HOPS, "/settings/trusted_hops out_of_range", |n| {
        let listener = json!({"name": "l", "port": 8000, "protocol": "HTTP"});
        json!({"name": "g", "listeners": [listener], "settings": {"trusted_hops": n}})
    });
    ends_at::<PlanSpec>(&caps::LIMITS_PER_PLAN, "/limits too_many", |n| {
        let limit = |i: usize| json!({"name": format!("l{i}"), "amount": 1, "window": "hour"});
        json!({"name": "p", "limits": many(n, limit)})
    });
    let fault = "/subscriptions_per_customer too_many";
    ends_at::<PlanSpec>(
        &caps::SUBSCRIPTIONS_PER_CUSTOMER,
        fault,
        |n| json!({"name": "p", "subscriptions_per_customer": n}),
    );
    ends_at::<ClusterSpec>(&caps::LABELS_PER_CLUSTER, "/labels too_many", |n| {
        let labels: serde_json::Map<String, Value> =
            (0..n).map(|i| (format!("l{i}"), json!("v"))).collect();
        json!({"name": "c", "labels": labels})
    });
    ends_at::<ClusterSpec>(
        &caps::PORT_RANGES_PER_CLUSTER,
        "/port_ranges too_many",
        |n| json!({"name": "c", "port_ranges": many(n, |i| json!({"first": i + 1, "last": i + 1}))}),
    );
    ends_at::<ApiTokenSpec>(
        &caps::ROLES_PER_TOKEN,
        "/roles too_many",
        |n| json!({"name": "t", "roles": many(n, |_| json!("org-admin"))}),
    );
}

#[test]
fn an_answer_tells_so_many_faults_and_no_more() {
    let wrong =
        |n: usize| json!({"name": "p", "api_services": [], "categories": many(n, |_| json!(""))});
    assert_eq!(faults::<ProductSpec>(wrong(20)).len(), 20);
    let routes = |n: usize| {
        service(json!({"routes": many(n, |i| {
            let mut one = route(&format!("r{i}"));
            one["timeout_ms"] = json!(0);
            one
        })}))
    };
    let cap = &caps::FAULTS_TOLD;
    assert_eq!(faults::<ApiServiceSpec>(routes(cap.size())).len(), cap.size());
    assert_eq!(faults::<ApiServiceSpec>(routes(cap.size() + 1)).len(), cap.size());
}

#[test]
fn names_and_descriptions_hold_nothing_hidden() {
    let hidden = [
        "a\u{200b}b",
        "\u{202e}evil",
        "a\u{2066}b",
        "a\u{feff}",
        "a\u{a0}b",
        "a\u{3164}",
        "a\u{ad}b",
    ];
    for text in hidden {
        assert_eq!(
            faults::<CustomerSpec>(json!({"name": text})),
            ["/name invalid_name"],
            "{text:?}"
        );
        let product = json!({
            "name": text, "product_version": text, "categories": [text], "description": text,
        });
        let expected = [
            "/name invalid_name",
            "/product_version invalid_name",
            "/description invalid_text",
            "/categories/0 invalid_name",
        ];
        assert_eq!(faults::<ProductSpec>(product), expected, "{text:?}");
        let cluster =
            json!({"name": "c", "region": text, "cloud_provider": text, "labels": {"l": text}});
        let expected =
            ["/region invalid_text", "/cloud_provider invalid_text", "/labels/l invalid_text"];
        assert_eq!(faults::<ClusterSpec>(cluster), expected, "{text:?}");
    }
    let plain = json!({"name": "결제 API — été", "description": "One\n\tTwo \u{2764}\u{fe0f}"});
    assert_eq!(faults::<ProductSpec>(plain), Vec::<String>::new());
}
