//! Malformed messages are refused as a whole, and the error names the field.

use imp_proto::config as pb;
use imp_translate::ir;

use crate::fixtures::{self, header, publish, request_headers, route, service, value};

/// A change that makes a valid publish invalid, with the field that the error must begin with.
type Spoil<'a> = (&'a str, &'a dyn Fn(&mut pb::Publish));

fn refused(cases: &[Spoil<'_>]) {
    for (field, spoil) in cases {
        let mut message = publish("p1", "api.example.com", 1);
        assert!(ir::Publish::parse(&message).is_ok());
        spoil(&mut message);
        let reason = ir::Publish::parse(&message).map_err(|error| error.to_string());
        let named = reason.as_ref().err().is_some_and(|r| r.starts_with(&format!("{field}: ")));
        assert!(named, "expected {field}, got {reason:?} for {message:?}");
    }
}

fn first(publish: &mut pb::Publish) -> &mut pb::Route {
    service(publish).routes.first_mut().unwrap()
}

fn with_path(publish: &mut pb::Publish, path: pb::path_match::Kind) {
    first(publish).path = Some(pb::PathMatch { kind: Some(path) });
}

#[test]
fn a_publish_needs_ids_hosts_and_a_base_path() {
    refused(&[
        ("id", &|p| p.id.clear()),
        ("id", &|p| p.id = "a/b".into()),
        ("id", &|p| p.id = "x".repeat(65)),
        ("gateway_id", &|p| p.gateway_id.clear()),
        ("gateway_id", &|p| p.gateway_id = "g~1".into()),
        ("hostnames", &|p| p.hostnames.clear()),
        ("hostnames/1", &|p| p.hostnames.push("api.example.com".into())),
        ("hostnames/1", &|p| p.hostnames.push("*.*.com".into())),
        ("kept_out_hosts/0", &|p| p.kept_out_hosts.push("API.example.com".into())),
        ("kept_out_hosts/1", &|p| p.kept_out_hosts = vec!["a.com".into(); 2]),
        ("base_path", &|p| p.base_path = "v1".into()),
        ("base_path", &|p| p.base_path = "/v1/".into()),
        ("base_path", &|p| p.base_path = "/v1/../v2".into()),
    ]);
}

#[test]
fn hosts_are_canonical() {
    let bad = [
        "",
        ".",
        "API.example.com",
        "api.example.com.",
        "api.example.com:80",
        "a..b",
        "-a.com",
        "a_b.com",
        "a b.com",
        "a,b.com",
        "b\u{fc}cher.de",
        "*.*",
        "a.*",
        "!404",
        "a/b",
        "%REQ(x)%",
    ];
    for host in bad {
        refused(&[
            ("hostnames/0", &|p| p.hostnames = vec![host.into()]),
            ("api_services/0/routes/0/rewrite/host", &|p| {
                let host = if host.is_empty() { "." } else { host }.into();
                first(p).rewrite = Some(pb::Rewrite { host, ..Default::default() });
            }),
        ]);
    }
    // Callers have wildcards, upstreams have none.
    for host in ["*", "*.example.com"] {
        refused(&[("api_services/0/routes/0/rewrite/host", &|p| {
            first(p).rewrite = Some(pb::Rewrite { host: host.into(), ..Default::default() });
        })]);
    }
}

#[test]
fn paths_are_what_normalisation_would_leave_alone() {
    let bad = [
        "",
        "a",
        "//",
        "/a//b",
        "/a/../b",
        "/a/.",
        "/..",
        "/a%2fb",
        "/a?b",
        "/a#b",
        "/a;b",
        "/a\\b",
        "/a b",
        "/a\nb",
        "/{a}",
        "/a\"b",
        "/a%5Cb",
        "/a%00",
        "/a%2",
        "/%2e%2e/a",
    ];
    for path in bad {
        refused(&[
            ("api_services/0/routes/0/path", &|p| with_path(p, fixtures::exact(path))),
            ("api_services/0/routes/0/path", &|p| with_path(p, fixtures::prefix(path))),
        ]);
        if !path.is_empty() {
            refused(&[("api_services/0/routes/0/rewrite/path", &|p| {
                first(p).rewrite = Some(pb::Rewrite { path: path.into(), ..Default::default() });
            })]);
        }
    }
    for template in
        ["", "x", "/{}", "/{a}{b}", "/{a+}/b", "/{a}/../b", "/{a}//b", "/{a%}", "/{a}/{a}"]
    {
        refused(&[("api_services/0/routes/0/path", &|p| {
            with_path(p, fixtures::template(template));
        })]);
    }
    let endless = "a".repeat(1025);
    for regex in ["", "(", ")", "a)|(?:.*", "[z-a]", r"\Qa", "(?P<n>", endless.as_str()] {
        refused(&[("api_services/0/routes/0/path", &|p| with_path(p, fixtures::regex(regex)))]);
    }
    refused(&[
        ("api_services/0/routes/0/path", &|p| first(p).path = None),
        ("api_services/0/routes/0/path", &|p| first(p).path = Some(pb::PathMatch { kind: None })),
    ]);
}

#[test]
fn a_route_needs_known_methods_backends_and_times() {
    let to = |id: &str, weight| pb::WeightedBackend { backend_id: id.into(), weight };
    refused(&[
        ("api_services/0/routes/0/id", &|p| first(p).id = "r 1".into()),
        ("api_services/0/routes/0/methods/1", &|p| {
            first(p).methods = vec!["GET".into(), "get".into()];
        }),
        ("api_services/0/routes/0/methods/0", &|p| first(p).methods = vec!["TRACE".into()]),
        ("api_services/0/routes/0/methods/0", &|p| first(p).methods = vec!["GET|.*".into()]),
        ("api_services/0/routes/0/backends", &|p| first(p).backends.clear()),
        ("api_services/0/routes/0/backends", &|p| first(p).backends = vec![to("b1", 0)]),
        ("api_services/0/routes/0/backends/0", &|p| first(p).backends = vec![to("b2", 1)]),
        ("api_services/0/routes/0/backends", &|p| {
            first(p).backends = vec![to("b1", u32::MAX), to("b1", 1)];
        }),
        ("api_services/0/routes/0/timeout_ms", &|p| first(p).timeout_ms = 3_600_001),
        ("api_services/1/routes/0/backends/0", &|p| {
            // Another service's backend.
            let mut second = service(p).clone();
            second.backends.clear();
            p.api_services.push(second);
        }),
    ]);
}

#[test]
fn matches_say_what_they_match() {
    use pb::value_match::Kind;
    let exact = || Kind::Exact("v".into());
    let cases = [
        ("headers/0", value("", exact())),
        ("headers/0", value("x imp", exact())),
        ("headers/0", value(":method", exact())),
        ("headers/0", pb::ValueMatch { name: "x".into(), kind: None }),
        ("headers/0", value("x", Kind::Exact("a\r\nb".into()))),
        ("headers/0", value("x", Kind::Exact("v".repeat(5_000)))),
        ("headers/0", value("x", Kind::Prefix(String::new()))),
        ("headers/0", value("x", Kind::Regex("(".into()))),
        ("query/0", value("", exact())),
        ("query/0", value(&"q".repeat(1_000), exact())),
        ("query/0", value("a\nb", exact())),
        ("query/0", pb::ValueMatch { name: "x".into(), kind: None }),
        ("query/0", value("x", Kind::Prefix(String::new()))),
    ];
    for (field, rule) in cases {
        refused(&[(&format!("api_services/0/routes/0/{field}"), &|p| {
            let list = if field.starts_with("query") {
                &mut first(p).query
            } else {
                &mut first(p).headers
            };
            list.push(rule.clone());
        })]);
    }
}

#[test]
fn policies_write_only_headers_that_are_theirs() {
    let reserved = [
        "",
        "x imp",
        ":path",
        "host",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "x-imp-consumer",
        "X-Imp-Plan",
        "x-envoy-retry-on",
        "x-forwarded-for",
        "a\r\nb",
    ];
    for name in reserved {
        let set = pb::Headers { set: vec![header(name, "v")], ..Default::default() };
        let add = pb::Headers { add: vec![header(name, "v")], ..Default::default() };
        let remove = pb::Headers { remove: vec![name.into()], ..Default::default() };
        for (list, headers) in [("set", set), ("add", add), ("remove", remove)] {
            let field = format!("policies/0/{list}/0");
            refused(&[(&field, &|p| service(p).policies = vec![request_headers(headers.clone())])]);
            let policy = fixtures::response_headers(headers);
            refused(&[(&field, &|p| first(p).policies = vec![policy.clone()])]);
        }
    }
    let long = "v".repeat(5_000);
    for value in ["100%", "%REQ(x-api-key)%", "%%%", "a\nb", "a\0b", "\u{fc}", long.as_str()] {
        let set = pb::Headers { set: vec![header("x-team", value)], ..Default::default() };
        refused(&[("policies/0/set/0", &|p| {
            service(p).policies = vec![request_headers(set.clone())];
        })]);
    }
    let access = |allow: &[&str]| {
        let allow = allow.iter().map(|&net| net.to_owned()).collect();
        let access = pb::IpAccess { allow, deny: Vec::new() };
        pb::Policy { id: "p".into(), kind: Some(pb::policy::Kind::IpAccess(access)) }
    };
    for (field, nets) in [("allow/1", &["10.0.0.0/8", "10.0.0.0/33"][..]), ("allow", &[])] {
        let field = format!("policies/0/{field}");
        refused(&[(&field, &|p| service(p).policies = vec![access(nets)])]);
    }
    let cors = |origin: &str, credentials| {
        let origins = if origin.is_empty() { Vec::new() } else { vec![origin.to_owned()] };
        let cors = pb::Cors {
            allow_origins: origins,
            allow_credentials: credentials,
            ..Default::default()
        };
        pb::Policy { id: "p".into(), kind: Some(pb::policy::Kind::Cors(cors)) }
    };
    for (field, origin, credentials) in [
        ("allow_origins", "", false),
        ("allow_origins/0", "https://a.example/", false),
        ("allow_credentials", "*", true),
    ] {
        let field = format!("policies/0/{field}");
        refused(&[(&field, &|p| service(p).policies = vec![cors(origin, credentials)])]);
    }
    refused(&[("policies/0/kind", &|p| {
        // A policy of a newer control plane: leaving it out could open what it closes.
        first(p).policies = vec![pb::Policy { id: "p".into(), kind: None }];
    })]);
}

#[test]
fn a_route_names_policies_of_the_list_each_type_once() {
    let with = |policies: &[pb::Policy], places: &[u32]| {
        let (policies, places) = (policies.to_vec(), places.to_vec());
        move |publish: &mut pb::Publish| {
            publish.policies.clone_from(&policies);
            first(publish).policy_indexes.clone_from(&places);
        }
    };
    let one = request_headers(pb::Headers { remove: vec!["x-a".into()], ..Default::default() });
    let other = pb::Policy { id: "other".into(), ..one.clone() };
    let unnamed = pb::Policy { id: String::new(), ..one.clone() };
    let newer = pb::Policy { id: "newer".into(), kind: None };
    let at = |place: &str| format!("api_services/0/routes/0/policy_indexes/{place}");
    refused(&[
        (&at("0"), &with(&[], &[0])),
        (&at("1"), &with(std::slice::from_ref(&one), &[0, 1])),
        (&at("0"), &with(std::slice::from_ref(&one), &[u32::MAX])),
        (&at("1"), &with(std::slice::from_ref(&one), &[0, 0])),
        // The agent cannot choose which of the two applies.
        (&at("1"), &with(&[one.clone(), other.clone()], &[0, 1])),
        ("policies/1/id", &with(&[one.clone(), one.clone()], &[0])),
        ("policies/0/id", &with(&[unnamed], &[0])),
        ("policies/1/kind", &with(&[one.clone(), newer], &[0])),
    ]);
    let mut good = publish("p1", "api.example.com", 1);
    service(&mut good).routes.push(route("r2", fixtures::prefix("/2")));
    with(&[other, one], &[1])(&mut good);
    service(&mut good).routes[1].policy_indexes = vec![1];
    let parsed = ir::Publish::parse(&good).unwrap();
    let [a, b] = &parsed.routes[..] else { panic!() };
    let of = |route: &ir::Route| route.policies.request_headers.clone().unwrap();
    assert!(std::sync::Arc::ptr_eq(&of(a), &of(b)), "one object, rendered once");
}

/// What a renderer needs that does authentication and counting itself.
#[test]
fn a_publish_says_whose_it_is_and_who_may_call() {
    use pb::publish::AuthMode;
    let rate = pb::RateLimit { requests: 5, window_seconds: 60 };
    let rate = pb::Policy { id: "slow".into(), kind: Some(pb::policy::Kind::RateLimit(rate)) };
    let mut message = pb::Publish {
        product_id: "product".into(),
        environment: "prod".into(),
        policies: vec![rate],
        ..publish("p1", "api.example.com", 1)
    };
    first(&mut message).policy_indexes = vec![0];
    let parsed = ir::Publish::parse(&message).unwrap();
    let whose = [&*parsed.tenant_id, &*parsed.product_id, &*parsed.environment];
    assert_eq!(whose, ["t1", "product", "prod"]);
    let rate = parsed.routes[0].policies.rate_limit.as_deref();
    let expected = ir::policy::RateLimit { id: "slow".into(), requests: 5, window_seconds: 60 };
    assert_eq!(rate, Some(&expected));
    for (mode, number) in [
        (ir::AuthMode::None, AuthMode::None.into()),
        (ir::AuthMode::ApiKey, AuthMode::ApiKey.into()),
        (ir::AuthMode::Unsupported, AuthMode::Mtls.into()),
        (ir::AuthMode::Unsupported, 77),
    ] {
        message.auth_mode = number;
        assert_eq!(ir::Publish::parse(&message).unwrap().auth_mode, mode);
    }
}

/// The former release's control plane fills other lists; the current one fills both.
#[test]
fn a_publish_of_the_former_form_is_the_same_publish() {
    let set = |value| {
        let set = vec![header("x-team", value)];
        request_headers(pb::Headers { set, ..Default::default() })
    };
    let mut former = publish("p1", "api.example.com", 1);
    service(&mut former).policies = vec![pb::Policy { id: "p0".into(), ..set("service") }];
    service(&mut former).routes.push(route("r2", fixtures::prefix("/2")));
    first(&mut former).policies = vec![set("route")];
    let mut both = former.clone();
    both.policies = vec![set("route"), pb::Policy { id: "p0".into(), ..set("service") }];
    for (place, route) in service(&mut both).routes.iter_mut().enumerate() {
        route.policy_indexes = vec![u32::try_from(place).unwrap()];
    }
    let parsed = |publish| ir::Publish::parse(publish).unwrap();
    assert_eq!(parsed(&former), parsed(&both));
    let mut present = both.clone();
    service(&mut present).policies.clear();
    first(&mut present).policies.clear();
    assert_eq!(parsed(&present), parsed(&both));
}

#[test]
fn backends_are_reachable_in_principle() {
    let at = |field: &str| format!("api_services/0/backends/0/{field}");
    let endpoint = |p: &mut pb::Publish, change: &dyn Fn(&mut pb::Endpoint)| {
        change(service(p).backends[0].endpoints.first_mut().unwrap());
    };
    let hosts = [
        "",
        "a_b",
        "a b",
        "http://a",
        "a:80",
        "[::1",
        "127.1",
        "2130706433",
        "0x7f.0x1",
        "1.2.3.4.5",
        "*.a",
        "a..b",
    ];
    for host in hosts {
        refused(&[(&at("endpoints/0/host"), &|p| endpoint(p, &|e| e.host = host.into()))]);
    }
    refused(&[
        (&at("endpoints"), &|p| service(p).backends[0].endpoints.clear()),
        (&at("endpoints/0/port"), &|p| endpoint(p, &|e| e.port = 0)),
        (&at("endpoints/0/port"), &|p| endpoint(p, &|e| e.port = 65_536)),
        (&at("endpoints/0/weight"), &|p| endpoint(p, &|e| e.weight = 129)),
        (&at("connect_timeout_ms"), &|p| service(p).backends[0].connect_timeout_ms = 600_001),
        (&at("protocol"), &|p| service(p).backends[0].protocol = 99),
        (&at("lb_policy"), &|p| service(p).backends[0].lb_policy = 99),
        ("api_services/0/backends/1", &|p| {
            let twice = service(p).backends[0].clone();
            service(p).backends.push(twice);
        }),
    ]);
}

/// Every Envoy calls and checks what is there as often as it is there.
#[test]
fn stored_endpoints_and_checks_that_are_too_many_are_served_as_fewer() {
    let mut publish = fixtures::publish("p1", "a.example.com", 1);
    let backend = &mut fixtures::service(&mut publish).backends[0];
    let endpoint = |port, weight| pb::Endpoint { host: "127.0.0.1".into(), port, weight };
    backend.endpoints = vec![endpoint(1, 100), endpoint(2, 3), endpoint(1, 100), endpoint(2, 1)];
    backend.health_check =
        Some(pb::HealthCheck { interval_ms: 1_000, timeout_ms: 60_000, ..Default::default() });
    let parsed = ir::Publish::parse(&publish).unwrap();
    let backend = &parsed.routes[0].backends[0].backend;
    let endpoints: Vec<_> = backend.endpoints.iter().map(|it| (it.port, it.weight)).collect();
    assert_eq!(endpoints, [(1, 128), (2, 4)]);
    let check = backend.settings.health_check.as_ref().unwrap();
    assert_eq!((check.interval_ms, check.timeout_ms), (5_000, 1_000));
}

#[test]
fn a_gateway_has_listeners_with_distinct_names_and_ports() {
    let good = fixtures::gateway(80);
    let listener = |change: &dyn Fn(&mut pb::Listener)| {
        let mut gateway = good.clone();
        change(gateway.listeners.first_mut().unwrap());
        gateway
    };
    let settings = |change: &dyn Fn(&mut pb::GatewaySettings)| {
        let mut settings = pb::GatewaySettings::default();
        change(&mut settings);
        pb::Gateway { settings: Some(settings), ..good.clone() }
    };
    assert!(ir::Gateway::parse(&settings(&|s| s.trusted_hops = 8)).is_ok());
    let second = |change: &dyn Fn(&mut pb::Listener)| {
        let mut gateway = good.clone();
        let mut second =
            pb::Listener { name: "b".into(), port: 81, ..gateway.listeners[0].clone() };
        change(&mut second);
        gateway.listeners.push(second);
        gateway
    };
    assert!(ir::Gateway::parse(&good).is_ok() && ir::Gateway::parse(&second(&|_| {})).is_ok());
    let cases = [
        ("id", pb::Gateway { id: "g/1".into(), ..good.clone() }),
        ("listeners", pb::Gateway { listeners: vec![], ..good.clone() }),
        ("settings/escaped_slash", settings(&|s| s.escaped_slash = 9)),
        ("settings/underscore_headers", settings(&|s| s.underscore_headers = 9)),
        ("settings/trusted_hops", settings(&|s| s.trusted_hops = 9)),
        ("listeners/0/name", listener(&|l| l.name.clear())),
        ("listeners/0/name", listener(&|l| l.name = "a\nb".into())),
        ("listeners/0/port", listener(&|l| l.port = 0)),
        ("listeners/0/port", listener(&|l| l.port = 65_536)),
        ("listeners/0/protocol", listener(&|l| l.protocol = 0)),
        ("listeners/0/protocol", listener(&|l| l.protocol = 99)),
        ("listeners/0/protocol", listener(&|l| l.protocol = pb::listener::Protocol::Https.into())),
        ("listeners/0/hostname", listener(&|l| l.hostname = "*.example.com".into())),
        ("listeners/0/hostname", listener(&|l| l.hostname = "a' || true || 'b".into())),
        ("listeners/1", second(&|l| l.name = "http".into())),
        ("listeners/1", second(&|l| l.port = 80)),
    ];
    for (field, gateway) in cases {
        let reason = ir::Gateway::parse(&gateway).map_err(|error| error.field);
        assert_eq!(reason, Err(field.to_owned()), "{gateway:?}");
    }
}

#[test]
fn routes_stand_in_the_order_in_which_envoy_must_try_them() {
    let mut message = publish("p1", "api.example.com", 1);
    let mut urgent = route("urgent", fixtures::prefix("/"));
    urgent.priority = 1;
    let mut asking = route("asking", fixtures::prefix("/a/b"));
    asking.methods = vec!["GET".into()];
    service(&mut message).routes = vec![
        route("short", fixtures::prefix("/a")),
        route("long", fixtures::prefix("/a/b")),
        asking,
        route("regex", fixtures::regex("/a/.*")),
        route("template", fixtures::template("/a/{x}")),
        route("exact", fixtures::exact("/a")),
        urgent,
    ];
    let order = |message: &pb::Publish| -> Vec<String> {
        let routes = ir::Publish::parse(message).unwrap().routes.clone();
        routes.into_iter().map(|route| route.id).collect()
    };
    let expected = ["urgent", "exact", "asking", "long", "template", "short", "regex"];
    assert_eq!(order(&message), expected);
    service(&mut message).routes.reverse();
    assert_eq!(order(&message), expected, "however they came");
}
