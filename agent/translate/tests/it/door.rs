//! Tests of enforcement's place in Envoy.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use imp_translate::xds::door::context;
use imp_translate::xds::{EXTENSION, SCOPE, filter};
use imp_translate::{Delta, Rendered, ir};
use prost::{Message as _, Name as _};

use crate::fixtures::{self, assembly, parsed, parsed_gateway, publish};
use crate::golden::rich;

/// Every rendered ext_authz filter, wherever it is.
fn doors(delta: &Delta) -> Vec<authz::ExtAuthz> {
    let of_type = |resource: &&Rendered| resource.type_url == EXTENSION;
    let decode = |resource: &Rendered| {
        let slot = core::TypedExtensionConfig::decode(resource.value.clone()).unwrap();
        authz::ExtAuthz::decode(slot.typed_config.unwrap().value.as_slice()).unwrap()
    };
    delta.all.upserts.iter().filter(of_type).map(decode).collect()
}

#[test]
fn enforcement_fails_closed_and_holds_a_call_no_longer_than_is_stated() {
    let delta = assembly().set_gateway(parsed_gateway(8080));
    let doors = doors(&delta);
    assert_eq!(doors.len(), 1);
    for door in doors {
        assert!(!door.failure_mode_allow && !door.failure_mode_allow_header_add, "{door:?}");
        assert_eq!(door.status_on_error.map(|status| status.code), Some(503));
        let Some(authz::ext_authz::Services::GrpcService(service)) = door.services else {
            panic!("not gRPC")
        };
        let timeout = service.timeout.unwrap();
        assert_eq!((timeout.seconds, timeout.nanos), (5, 0));
        assert!(service.retry_policy.is_some_and(|it| it.num_retries.is_some()));
    }
}

/// A filter that fails open is only on routes without a decision to make.
#[test]
fn only_a_route_that_anybody_may_call_at_will_passes_without_an_agent() {
    let limited = parsed(&rich("p1", "a.example.com", 9000));
    let rate = limited.routes.iter().find_map(|route| route.policies.rate_limit.clone());
    assert!(rate.is_some());
    for (auth_mode, rate, open) in [
        (ir::AuthMode::None, None, true),
        (ir::AuthMode::None, rate, false),
        (ir::AuthMode::ApiKey, None, false),
        (ir::AuthMode::Unsupported, None, false),
    ] {
        let mut publish = parsed(&publish("p1", "a.example.com", 1));
        publish.auth_mode = auth_mode;
        publish.routes[0].policies.rate_limit = rate;
        let mut assembly = assembly();
        assembly.set_gateway(parsed_gateway(8080));
        let delta = assembly.set_publish(publish);
        let scope = delta.all.upserts.iter().find(|it| it.type_url == SCOPE).unwrap();
        let scope = route::ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
        let host = scope.route_configuration.unwrap().virtual_hosts.remove(0);
        let [route] = host.routes.as_slice() else { panic!("{host:?}") };
        let filters = &route.typed_per_filter_config;
        assert_eq!(filters.contains_key("imp.open"), open, "{auth_mode:?}");
        let door = authz::ExtAuthzPerRoute::decode(filters["imp.door"].value.as_slice()).unwrap();
        let shut = authz::ext_authz_per_route::Override::Disabled(true);
        assert_eq!(door.r#override == Some(shut), open, "{auth_mode:?}");
    }
}

/// What each route of the only scope tells the agent; `None` if it does not ask.
fn said(publish: ir::Publish) -> Vec<Option<Vec<(String, String)>>> {
    let mut assembly = assembly();
    assembly.set_gateway(parsed_gateway(8080));
    let delta = assembly.set_publish(publish);
    let scope = delta.all.upserts.iter().find(|resource| resource.type_url == SCOPE).unwrap();
    let scope = route::ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
    let hosts = scope.route_configuration.unwrap().virtual_hosts;
    let takes = Some(authz::ExtAuthzPerRoute::type_url());
    let door = filter::chain().into_iter().find(|filter| filter.settings == takes).unwrap().name;
    let said = |route: route::Route| {
        let settings = route.typed_per_filter_config[door].value.as_slice();
        match authz::ExtAuthzPerRoute::decode(settings).unwrap().r#override.unwrap() {
            authz::ext_authz_per_route::Override::Disabled(_) => None,
            authz::ext_authz_per_route::Override::CheckSettings(check) => {
                let mut said: Vec<_> = check.context_extensions.into_iter().collect();
                said.sort();
                Some(said)
            }
        }
    };
    hosts.into_iter().flat_map(|host| host.routes).map(said).collect()
}

#[test]
fn a_route_that_asks_names_the_rules_of_its_own_revision() {
    let ruled = |access: &str| fixtures::ruled(&rich("p1", "a.example.com", 9000), access);
    let said_of = |access: &str| {
        let asking: Vec<_> = said(ruled(access)).into_iter().flatten().collect();
        assert!(asking.len() > 1);
        let named = |said: &Vec<(String, String)>| {
            let [(key, value)] = said.as_slice() else { panic!("{said:?}") };
            assert_eq!(key, context::ROUTE);
            let [access, route, base] = value.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{value}")
            };
            assert!(!route.is_empty() && base == "/v1", "{value}");
            access.to_owned()
        };
        let mut named: Vec<_> = asking.iter().map(named).collect();
        named.dedup();
        named
    };
    assert_eq!(said_of("0123456789abcdef"), ["0123456789abcdef"]);
    assert_eq!(said_of(""), [""], "nothing is said of rules that nobody named");
}

#[test]
fn the_next_revision_changes_a_scope_no_more_when_the_rules_stay() {
    let ruled = |revision, access: &str| {
        said(fixtures::ruled(&publish("p1", "a.example.com", revision), access))
    };
    assert_eq!(ruled(1, "same"), ruled(2, "same"));
    assert_ne!(ruled(1, "same"), ruled(2, "other"));
}
