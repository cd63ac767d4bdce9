//! The same inputs as objects of Kubernetes: `golden/in/<case>.json` becomes
//! `golden/objects/<case>.snap`, for class envoy-gateway. A publish that cannot be said is its
//! refusal.

use std::panic::{AssertUnwindSafe, catch_unwind};

use imp_grammar::classes;
use imp_translate::gateway_api::{Decider, Deployed, Options, Plan};
use imp_translate::ir::{self, EndpointHost};
use serde_json::{Value, json};

use super::form::{self, Case};
use super::names;
use crate::fixtures::{self, parsed};

pub(crate) fn options() -> Options {
    Options {
        namespace: "edge".to_owned(),
        cluster: "c1".to_owned(),
        upstreams: fixtures::loopback(),
        names: vec!["*.example.com".to_owned(), "backend.internal".to_owned()],
    }
}

pub(crate) fn decider() -> Decider {
    Decider {
        host: EndpointHost::Name("imp-agent.imp-system.svc".to_owned()),
        port: 18_000,
        authority: "authority".to_owned(),
        certificate: "certificate".to_owned(),
        key: "key".to_owned(),
    }
}

pub(crate) fn envoy_gateway() -> Deployed {
    Deployed { class: &classes::ENVOY_GATEWAY, name: "eg".to_owned(), decider: Some(decider()) }
}

fn objects(case: &Case) -> Vec<Value> {
    let mut plan = Plan::new(options());
    let gateway = ir::Gateway::parse(&case.gateway(8080)).unwrap();
    let mut objects = plan.set_gateway(&gateway, envoy_gateway()).unwrap();
    if !case.shows_listeners() {
        objects.clear();
    }
    for publish in case.publishes() {
        match plan.set_publish(&parsed(&publish)) {
            Ok(rendered) => objects.extend(rendered),
            Err(refusal) => objects.push(json!({ "refused": refusal.to_string() })),
        }
    }
    objects
}

/// The objects of all inputs, and of every gateway.
pub(crate) fn all() -> Vec<Value> {
    let of = |name: String| {
        let mut case = Case::read(&name);
        case.shows = vec![form::Shown::Listeners];
        objects(&case)
    };
    let mut all: Vec<_> = names("in", "json").into_iter().flat_map(of).collect();
    all.retain(|object| object.get("refused").is_none());
    all
}

#[test]
fn every_input_becomes_objects_or_a_refusal() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(form::folder().join("objects"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let inputs = names("in", "json");
    let differs = |name: &&String| {
        let case = || {
            settings.bind(|| {
                insta::assert_yaml_snapshot!(name.as_str(), objects(&Case::read(name)));
            });
        };
        catch_unwind(AssertUnwindSafe(case)).is_err()
    };
    let differing: Vec<_> = inputs.iter().filter(differs).collect();
    assert!(differing.is_empty(), "{differing:?}; the differences are above");
    assert_eq!(names("objects", "snap"), inputs, "an output without an input");
}
