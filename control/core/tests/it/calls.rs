//! What a route may match, and how it may change a call.

use imp_core::Check as _;
use imp_core::api_service::ApiServiceSpec;
use imp_core::upstream::UpstreamPolicy;
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

#[test]
fn a_rewrite_names_what_the_path_has() {
    let with = |path: Value, rewrite: Value| {
        let at = "/routes/0/rewrite/";
        let found = faults(service(json!({"path": path, "rewrite": rewrite})));
        found.iter().map(|fault| fault.replace(at, "")).collect::<Vec<_>>()
    };
    let template = || json!({"template": "/a/{x}/{y}"});
    let regex = || json!({"regex": "/a/(.*)/(?P<rest>.*)"});
    let to = |path: &str| json!({"path": path});
    let fine = Vec::<String>::new();
    assert_eq!(with(template(), to("/v2/{y}/{x}")), fine);
    assert_eq!(with(regex(), to("/{1}/{rest}/{2}")), fine);
    for kind in ["exact", "prefix", "template", "regex"] {
        assert_eq!(with(json!({kind: "/a"}), json!({"strip_base_path": true})), fine);
        assert_eq!(with(json!({kind: "/a"}), to("/{x}")), ["path unknown_variable"], "{kind}");
    }
    assert_eq!(with(template(), to("/{1}")), ["path unknown_variable"]);
    assert_eq!(with(regex(), to("/{3}")), ["path unknown_variable"]);
    for bad in ["/{x", "/x}", "/../{x}", "{x}", "/{x}//a", "/\\1"] {
        assert_eq!(with(template(), to(bad)), ["path invalid_path"], "{bad}");
    }
    let copied = json!({"regex": r"(^/a|/b)+/(\d+)"});
    assert_eq!(with(copied.clone(), to("/n/{2}")), fine);
    assert_eq!(with(copied, to("/n/{1}")), ["path unknown_variable"], "it repeats");
    let both = json!({"path": "/b", "strip_base_path": true});
    assert_eq!(with(template(), both), ["strip_base_path conflict"]);
}

#[test]
fn a_stream_has_no_total_limit_and_may_upgrade() {
    let found = |fields: Value| faults(service(fields));
    let protocols = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>();
    let most = imp_grammar::caps::UPGRADES_PER_ROUTE.size();
    let fine = Vec::<String>::new();
    assert_eq!(
        found(json!({"stream": true, "idle_timeout_ms": 1_000, "upgrades": protocols(most)})),
        fine
    );
    let more = json!({"stream": true, "upgrades": protocols(most + 1)});
    assert_eq!(found(more), ["/routes/0/upgrades too_many"]);
    for bad in ["h2c", "HTTP/2.0", "WebSocket", "tls/1.0", "connect-udp", "a b", "", "http2"] {
        let upgrade = json!({"stream": true, "upgrades": [bad]});
        assert_eq!(found(upgrade), ["/routes/0/upgrades/0 invalid_upgrade"], "{bad}");
    }
    for (fields, fault) in [
        (json!({"stream": true, "timeout_ms": 5}), "timeout_ms conflict"),
        (json!({"stream": true, "idle_timeout_ms": 999}), "idle_timeout_ms out_of_range"),
        (json!({"stream": true, "idle_timeout_ms": 3_600_001}), "idle_timeout_ms out_of_range"),
        (json!({"idle_timeout_ms": 1_000}), "idle_timeout_ms without_effect"),
        (json!({"upgrades": ["websocket"]}), "upgrades without_effect"),
    ] {
        assert_eq!(found(fields), [format!("/routes/0/{fault}")]);
    }
}

#[test]
fn the_settings_of_a_backend_are_bounded() {
    let with = |endpoints: &[&str], settings: Value| {
        let mut service = service(json!({}));
        let endpoints: Vec<_> =
            endpoints.iter().map(|host| json!({"host": host, "port": 80})).collect();
        service["backends"][0]["endpoints"] = json!(endpoints);
        service["backends"][0]
            .as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        let found = faults(service);
        found.iter().map(|fault| fault.replace("/backends/0/", "")).collect::<Vec<_>>()
    };
    let one = &["8.8.8.8"][..];
    let fine = Vec::<String>::new();
    for (field, name, least, most) in [
        ("retries", "attempts", 0, 5),
        ("outlier_detection", "consecutive_failures", 1, 100),
        ("outlier_detection", "ejection_ms", 1_000, 300_000),
        ("health_check", "interval_ms", 5_000, 300_000),
        ("health_check", "timeout_ms", 100, 1_000),
        ("health_check", "healthy_threshold", 1, 10),
        ("health_check", "unhealthy_threshold", 1, 10),
    ] {
        let said = |value: i64| with(one, json!({field: {name: value}}));
        assert_eq!((said(least), said(most)), (fine.clone(), fine.clone()), "{name}");
        assert_eq!(said(most + 1), [format!("{field}/{name} out_of_range")]);
        if least > 0 {
            assert_eq!(said(least - 1), [format!("{field}/{name} out_of_range")]);
        }
    }
    let off = json!({"outlier_detection": {"enabled": false, "ejection_ms": 1_000}});
    assert_eq!(with(one, off), ["outlier_detection/enabled conflict"]);
    let checked = || json!({"health_check": {}});
    assert_eq!(with(&["[2001:db8::1]", "8.8.8.8"], checked()), fine);
    assert_eq!(
        with(&["8.8.8.8", "up.example.com"], checked()),
        ["health_check unsupported_health_check"]
    );
    let host = json!({"health_check": {"host": "a.example.com"}});
    assert_eq!(with(one, host), ["health_check/host without_effect"]);
    let tls = |tls: Value| json!({"tls": tls});
    let twice = with(&["a.example.com", "A.example.com."], tls(json!({})));
    assert_eq!(twice, ["endpoints/1 duplicate"], "each would be called and checked twice");
    let twice = with(&["2001:db8::1", "8.8.8.8", "[2001:DB8:0::1]"], json!({}));
    assert_eq!(twice, ["endpoints/2 duplicate"]);
    assert_eq!(with(&["a.example.com", "b.example.com"], tls(json!({}))), ["tls/sni required"]);
    assert_eq!(
        with(&["a.example.com", "b.example.com"], tls(json!({"sni": "c.example.com"}))),
        fine
    );
    assert_eq!(
        with(one, tls(json!({"ca": "MII", "insecure": true}))),
        ["tls/ca invalid_certificates", "tls/ca conflict"]
    );
    assert_eq!(with(&["8.8.8.8", "[2001:db8::1]"], tls(json!({}))), fine, "each for itself");
    assert_eq!(with(&["8.8.8.8", "a.example.com"], tls(json!({}))), ["tls/sni required"]);
    assert_eq!(with(one, tls(json!({"sni": "a b"}))), ["tls/sni invalid_hostname"]);
}

/// Envoy refuses each of these; what it takes is accepted.
#[test]
fn certificates_of_authorities_are_read() {
    use base64::Engine as _;
    let pem = |der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example.com".into()]).unwrap();
    let good = params.self_signed(&key).unwrap().der().to_vec();
    let spoilt = |at: &[u8], offset: usize, byte: u8| {
        let start = good.windows(at.len()).position(|window| window == at).unwrap();
        let mut der = good.clone();
        der[start + offset] = byte;
        der
    };
    let found = |ca: String| {
        let mut service = service(json!({}));
        service["backends"][0]["tls"] = json!({ "ca": ca });
        faults(service)
    };
    assert_eq!(found(pem(&good)), Vec::<String>::new());
    assert_eq!(found(pem(&good).repeat(2)), Vec::<String>::new());
    let refused = ["/backends/0/tls/ca invalid_certificates"];
    let cut = good.len() - 3;
    for (what, der) in [
        ("nonsense", vec![0x30, 3, 2, 1, 1]),
        ("cut off", good[..cut].to_vec()),
        ("version", spoilt(&[0xa0, 3, 2, 1, 2], 4, 9)),
        ("time", spoilt(&[0x17, 13], 2, b'A')),
    ] {
        assert_eq!(found(pem(&good) + &pem(&der)), refused, "{what}");
    }
}

#[test]
fn an_address_is_one_in_every_spelling_or_refused() {
    let policy = UpstreamPolicy::default();
    let judged = |host: &str| policy.check(host).map_err(|fault| fault.code);
    for public in [
        "2001:4860:4860::8888",
        "[2001:4860:4860::8888]",
        "2001:4860:4860:0:0:0:0:8888",
        "2001:4860:4860:0000::8888",
        "[2001:4860:4860::8.8.136.136]",
        "8.8.8.8",
    ] {
        assert_eq!(judged(public), Ok(()), "{public}");
    }
    for carrier in
        ["::ffff:8.8.8.8", "[::FFFF:808:808]", "0:0:0:0:0:ffff:8.8.8.8", "2002:808:808::"]
    {
        assert_eq!(judged(carrier), Err("forbidden_upstream"), "{carrier}");
    }
    for no_address in
        ["8.8.8.8.", "fe80::1%eth0", "[::1", "8.8.2056", "010.8.8.8", "８.8.8.8", "::1::"]
    {
        assert_eq!(judged(no_address), Err("invalid_host"), "{no_address}");
    }
}
