//! What cannot be said is refused, with the route and what it needs.

use imp_grammar::classes::{self, CLASSES, Class};
use imp_proto::config as pb;
use imp_translate::gateway_api::{Decider, Deployed, Plan, Refusal};
use pb::publish::AuthMode;
use pb::value_match::Kind;
use serde_json::Value;

use crate::fixtures::{self, exact, parsed, prefix, service, template};
use crate::golden::objects::{decider, options};

type Change<'a> = &'a dyn Fn(&mut pb::Publish);

fn plan(class: &'static Class) -> Plan {
    with(class, Some(decider()))
}

fn with(class: &'static Class, decider: Option<Decider>) -> Plan {
    let mut plan = Plan::new(options());
    let deployed = Deployed { class, name: class.word.to_owned(), decider };
    plan.set_gateway(&fixtures::parsed_gateway(80), deployed).unwrap();
    plan
}

fn render(class: &'static Class, change: impl Fn(&mut pb::Publish)) -> Result<Vec<Value>, Refusal> {
    let mut publish = fixtures::publish("p1", "a.example.com", 1);
    publish.auth_mode = AuthMode::None.into();
    change(&mut publish);
    plan(class).set_publish(&parsed(&publish))
}

#[test]
fn every_class_serves_a_public_route_and_only_one_that_can_ask_serves_another() {
    for class in CLASSES {
        assert!(render(class, |_| {}).is_ok(), "{}", class.word);
        let asked = render(class, |publish| publish.auth_mode = AuthMode::ApiKey.into());
        if class.can(classes::DECISIONS) {
            assert!(asked.is_ok());
        } else {
            let lacks = Refusal::Lacks {
                at: "route r1".to_owned(),
                feature: "decisions",
                class: class.word,
            };
            assert_eq!(asked, Err(lacks));
        }
    }
}

#[test]
fn a_route_that_needs_a_decision_is_not_served_where_nobody_can_be_asked() {
    let mut plan = with(&classes::ENVOY_GATEWAY, None);
    let publish = fixtures::publish("p1", "a.example.com", 1);
    let refused = plan.set_publish(&parsed(&publish)).unwrap_err().to_string();
    assert!(refused.contains("the agent has no address"), "{refused}");
}

#[test]
fn a_class_refuses_by_name_what_it_cannot_do() {
    let cases: [(&str, Change<'_>); 6] = [
        ("expression_paths", &|it| service(it).routes[0] = fixtures::route("r1", template("/{x}"))),
        ("methods", &|it| service(it).routes[0].methods.push("GET".into())),
        ("timeouts", &|it| service(it).routes[0].timeout_ms = 1_000),
        ("backend_names", &|it| {
            service(it).backends[0] = fixtures::backend("b1", "up.example.com", 80);
        }),
        ("query_values", &|it| {
            service(it).routes[0].query.push(fixtures::value("a", Kind::Exact("1".into())));
        }),
        ("lb_policy", &|it| service(it).backends[0].lb_policy = 2),
    ];
    for (word, change) in cases {
        for class in CLASSES {
            let can = classes::FEATURES.iter().any(|it| it.word == word && class.can(*it));
            match render(class, change) {
                Ok(_) => assert!(can, "{word} {}", class.word),
                Err(Refusal::Lacks { feature, .. }) => {
                    assert!(!can && feature == word, "{word} {}: {feature}", class.word);
                }
                Err(other) => panic!("{word} {}: {other}", class.word),
            }
        }
    }
}

#[test]
fn routes_that_gateway_api_would_turn_around_are_refused_by_name() {
    let turned = |it: &mut pb::Publish| {
        let mut first = fixtures::route("first", prefix("/a"));
        first.priority = 1;
        service(it).routes = vec![first, fixtures::route("second", exact("/a/b"))];
    };
    let refused = render(&classes::NGINX, turned).unwrap_err().to_string();
    assert!(refused.contains("route_order") && refused.contains("first"), "{refused}");
    assert!(render(&classes::ENVOY_GATEWAY, turned).is_ok());
}

#[test]
fn an_address_that_no_call_may_reach_and_a_name_that_nobody_listed_are_refused() {
    for host in ["10.0.0.1", "169.254.169.254", "up.test"] {
        let refused = render(&classes::ENVOY_GATEWAY, |it| {
            service(it).backends[0] = fixtures::backend("b1", host, 80);
        });
        assert!(matches!(refused, Err(Refusal::Unsaid { .. })), "{host}: {refused:?}");
    }
    let listed = render(&classes::ENVOY_GATEWAY, |it| {
        service(it).backends[0] = fixtures::backend("b1", "a.example.com", 80);
    });
    assert!(listed.is_ok());
}

fn at(id: &str, base: &str, paths: &[pb::path_match::Kind]) -> pb::Publish {
    let mut publish = fixtures::publish(id, "a.example.com", 1);
    publish.auth_mode = AuthMode::None.into();
    publish.base_path = base.into();
    let route = |(index, path): (usize, &pb::path_match::Kind)| {
        fixtures::route(&format!("r{index}"), path.clone())
    };
    service(&mut publish).routes = paths.iter().enumerate().map(route).collect();
    publish
}

#[test]
fn a_publish_owns_what_is_below_its_base_path_or_is_refused() {
    let mut plan = plan(&classes::ENVOY_GATEWAY);
    plan.set_publish(&parsed(&at("outer", "/", &[prefix("/")]))).unwrap();
    plan.set_publish(&parsed(&at("inner", "/v1", &[prefix("/")]))).unwrap();
    let greedy = at("outer", "/", &[template("/{x}/y")]);
    let refused = plan.set_publish(&parsed(&greedy)).unwrap_err();
    assert_eq!(refused, Refusal::Nested { host: "a.example.com".into(), base_path: "/v1".into() });
    plan.remove_publish("inner");
    plan.set_publish(&parsed(&greedy)).unwrap();
    let inner = plan.set_publish(&parsed(&at("inner", "/v1", &[prefix("/")])));
    assert!(matches!(inner, Err(Refusal::Nested { .. })), "whoever comes second");
    // Elsewhere they do not meet.
    let mut elsewhere = at("inner", "/v1", &[prefix("/")]);
    elsewhere.hostnames = vec!["b.example.com".into()];
    plan.set_publish(&parsed(&elsewhere)).unwrap();
}

#[test]
fn a_class_without_nesting_refuses_it() {
    let mut plan = plan(&classes::NGINX);
    plan.set_publish(&parsed(&at("outer", "/", &[prefix("/")]))).unwrap();
    let inner = plan.set_publish(&parsed(&at("inner", "/v1", &[prefix("/")])));
    assert!(matches!(inner, Err(Refusal::Nested { .. })), "{inner:?}");
}

#[test]
fn header_values_that_the_crd_refuses_are_refused_here() {
    let with = |value: &str| {
        let headers =
            pb::Headers { set: vec![fixtures::header("x-a", value)], ..Default::default() };
        render(&classes::ENVOY_GATEWAY, |it| {
            it.policies = vec![fixtures::response_headers(headers.clone())];
            service(it).routes[0].policy_indexes = vec![0];
        })
    };
    assert!(with("100%% sure").is_ok());
    for value in ["a  b", " a", ""] {
        assert!(matches!(with(value), Err(Refusal::Unsaid { .. })), "{value:?}");
    }
}

#[test]
fn a_service_speaks_http2_by_its_port_and_not_over_tls() {
    let http2 = |it: &mut pb::Publish, protocol: pb::backend::Protocol| {
        service(it).backends[0].protocol = protocol.into();
    };
    let plain = render(&classes::TRAEFIK, |it| http2(it, pb::backend::Protocol::Http2)).unwrap();
    let of_service = plain.iter().find(|object| object["kind"] == "Service").unwrap();
    assert_eq!(of_service["spec"]["ports"][0]["appProtocol"], "kubernetes.io/h2c");
    let over_tls = render(&classes::TRAEFIK, |it| {
        http2(it, pb::backend::Protocol::Http2Tls);
        let tls = pb::UpstreamTls { sni: "up.example.com".into(), ..Default::default() };
        service(it).backends[0].tls = Some(tls);
    });
    assert!(matches!(over_tls, Err(Refusal::Unsaid { .. })), "{over_tls:?}");
}

#[test]
fn a_suspended_publish_that_cannot_answer_is_not_served_at_all() {
    for class in CLASSES {
        let objects = render(class, |it| it.suspended = true).unwrap();
        let routes = objects.iter().filter(|object| object["kind"] == "HTTPRoute").count();
        assert_eq!(routes, usize::from(class.can(classes::SUSPENSION)), "{}", class.word);
    }
}
