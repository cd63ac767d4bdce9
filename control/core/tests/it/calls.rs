//! What a route may ask of a call, and what may become of the call.

use imp_core::Check as _;
use imp_core::api_service::ApiServiceSpec;
use serde_json::{Value, json};

/// Every fault as `pointer code`.
fn faults(service: Value) -> Vec<String> {
    let spec: ApiServiceSpec = serde_json::from_value(service).unwrap();
    let found = spec.checked().err().unwrap_or_default();
    found.iter().map(|fault| format!("{} {}", fault.pointer, fault.code)).collect()
}

fn service(fields: Value) -> Value {
    let mut route = json!({"name": "r", "path": {"prefix": "/r"}, "backend_id": "up"});
    route.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({
        "name": "s",
        "backends": [{"name": "up", "endpoints": [{"host": "up.example.com", "port": 80}]}],
        "routes": [route],
    })
}

#[test]
fn a_condition_that_can_never_match_is_refused() {
    let header = |name: &str, value: Value| json!({"headers": [{"name": name, "value": value}]});
    for name in
        ["x-real-ip", "X-Forwarded-Proto", "x-request-id", "x-imp-plan", "x-envoy-a", "Forwarded"]
    {
        let found = faults(service(header(name, json!({"present": true}))));
        assert_eq!(found, ["/routes/0/headers/0/name reserved_header"], "{name}");
    }
    for value in [json!({"exact": " a"}), json!({"exact": "a "}), json!({"prefix": "\u{20}a"})] {
        let found = faults(service(header("x-a", value)));
        assert_eq!(found, ["/routes/0/headers/0/value never_matches"]);
    }
    let found = faults(service(header("host", json!({"exact": "A.example.com:80"}))));
    assert_eq!(found, ["/routes/0/headers/0/value never_matches"]);
    let query = |name: &str, value: Value| json!({"query": [{"name": name, "value": value}]});
    for (name, value) in [("a b", "x"), ("ä", "x"), ("a", "new york"), ("a", "x&y"), ("a", "#")] {
        let found = faults(service(query(name, json!({"regex": value}))));
        assert_eq!(found, ["/routes/0/query/0/value never_matches"], "{name} {value}");
    }
    let found = faults(service(query("a", json!({"exact": "x".repeat(451)}))));
    assert_eq!(found, ["/routes/0/query/0/value too_long"]);
    for good in [
        header("x-own", json!({"prefix": "a "})),
        header("host", json!({"exact": "a.example.com"})),
        header("authorization", json!({"prefix": "Basic "})),
        query("filter[name]", json!({"exact": "new york & more"})),
        query("ä b", json!({"present": false})),
        query("filter[name]", json!({"regex": "new(?:%20|\\+)york"})),
        query("a", json!({"prefix": "x".repeat(448)})),
    ] {
        assert_eq!(faults(service(good.clone())), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_policy_that_would_do_nothing_is_refused() {
    let with = |kind: &str, config: Value, route: Value| {
        let mut service = service(json!({}));
        service["policies"] =
            json!([{"name": "p", "type": kind, "config": config, "route": route}]);
        faults(service)
    };
    let set = |name: &str| json!({"set": [{"name": name, "value": "a"}]});
    let add = |name: &str| json!({"add": [{"name": name, "value": "a"}]});
    let nowhere = Value::Null;
    for (config, at) in [
        (set("Server"), "set/0/name"),
        (add("x-request-id"), "add/0/name"),
        (json!({"remove": ["server"]}), "remove/0"),
        (json!({"remove": ["Date"]}), "remove/0"),
    ] {
        let found = with("response_headers", config, nowhere.clone());
        assert_eq!(found, [format!("/policies/0/config/{at} reserved_header")]);
    }
    let both = json!({"set": [{"name": "A", "value": "1"}], "add": [{"name": "a", "value": "1"}], "remove": ["a"]});
    let twice = json!({"set": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}]});
    for kind in ["request_headers", "response_headers"] {
        let (config, code) = ("/policies/0/config", "without_effect");
        let expected =
            [format!("{config}/set/0/name {code}"), format!("{config}/add/0/name {code}")];
        assert_eq!(with(kind, both.clone(), nowhere.clone()), expected);
        assert_eq!(
            with(kind, twice.clone(), nowhere.clone()),
            [format!("{config}/set/0/name {code}")]
        );
        assert_eq!(with(kind, json!({}), nowhere.clone()), [format!("{config}/set required")]);
        assert_eq!(with(kind, json!({}), json!("r")), Vec::<String>::new());
        assert_eq!(with(kind, set("date"), nowhere.clone()), Vec::<String>::new());
    }
    assert_eq!(with("request_headers", set("server"), nowhere), Vec::<String>::new());
}
