//! Tests of enforcement's place in Envoy.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::google;
use imp_translate::xds::door::context;
use imp_translate::xds::{EXTENSION, SCOPE, filter};
use imp_translate::{Assembly, Delta, Door, Layout, Module, Options, Rendered, ir};
use prost::{Message as _, Name as _};

use crate::fixtures::{self, assembly, options, parsed, parsed_gateway, publish};
use crate::golden::rich;

fn extensions(delta: &Delta) -> Vec<&Rendered> {
    delta.all.upserts.iter().filter(|resource| resource.type_url == EXTENSION).collect()
}

/// Every rendered ext_authz filter, wherever it is.
fn doors(delta: &Delta) -> Vec<authz::ExtAuthz> {
    let decode = |resource: &Rendered| {
        let slot = core::TypedExtensionConfig::decode(resource.value.clone()).unwrap();
        authz::ExtAuthz::decode(slot.typed_config.unwrap().value.as_slice()).unwrap()
    };
    extensions(delta).into_iter().map(decode).collect()
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
        let is_off = filters["imp.door"].type_url == route::FilterConfig::type_url();
        assert_eq!(is_off, open, "{auth_mode:?}");
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
        let settings = &route.typed_per_filter_config[door];
        if settings.type_url == route::FilterConfig::type_url() {
            let off = route::FilterConfig::decode(settings.value.as_slice()).unwrap();
            assert!(off.disabled);
            return None;
        }
        match authz::ExtAuthzPerRoute::decode(settings.value.as_slice()).unwrap().r#override? {
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

/// Both doors read the same of a route, so that one can take the other's place at any time.
#[test]
fn with_the_module_a_route_tells_it_what_it_tells_the_agent() {
    let module = Module { file: "/module/libimp.so".into(), state: "{}".into() };
    let options = Options { door: Door::Module(module), ..options(Layout::ScopedRoutes) };
    let mut assembly = Assembly::new(options);
    let delta = assembly.set_gateway(parsed_gateway(8080));
    let [slot] = extensions(&delta)[..] else { panic!("{delta:?}") };
    let slot = core::TypedExtensionConfig::decode(slot.value.clone()).unwrap();
    assert_eq!(slot.name, "imp.door");
    let filter = slot.typed_config.unwrap();
    let filter = DynamicModuleFilter::decode(filter.value.as_slice()).unwrap();
    let library = filter.dynamic_module_config.unwrap();
    assert!(library.do_not_close);
    let local = core::data_source::Specifier::Filename("/module/libimp.so".into());
    let local = core::DataSource { specifier: Some(local), ..Default::default() };
    let source = library.module.unwrap().specifier.unwrap();
    assert_eq!(source, core::async_data_source::Specifier::Local(local));

    let mut open = parsed(&publish("p1", "a.example.com", 1));
    open.auth_mode = ir::AuthMode::None;
    open.keys = "apikey?key".into();
    let delta = assembly.set_publish(open);
    let scope = delta.all.upserts.iter().find(|it| it.type_url == SCOPE).unwrap();
    let scope = route::ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
    let host = scope.route_configuration.unwrap().virtual_hosts.remove(0);
    let [route] = host.routes.as_slice() else { panic!("{host:?}") };
    let filters: Vec<_> = route.typed_per_filter_config.keys().collect();
    assert_eq!(filters, ["imp.door"], "the module decides about it, too");
    let asked = &route.typed_per_filter_config["imp.door"];
    let asked = authz::ExtAuthzPerRoute::decode(asked.value.as_slice()).unwrap();
    let Some(authz::ext_authz_per_route::Override::CheckSettings(asked)) = asked.r#override else {
        panic!("{asked:?}")
    };
    let metadata = route.metadata.clone().unwrap().filter_metadata.remove("imp.door").unwrap();
    let text = |value: google::protobuf::Value| match value.kind {
        Some(google::protobuf::value::Kind::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    let told = metadata.fields.into_iter().map(|(key, value)| (key, text(value)));
    assert_eq!(told.collect::<HashMap<_, _>>(), asked.context_extensions);
    assert!(asked.context_extensions.contains_key(context::KEYS));

    // The agent takes over: the filter alone changes.
    let scopes = |door| {
        let options = crate::fixtures::options(Layout::ScopedRoutes);
        let mut assembly = Assembly::new(Options { door, ..options });
        let door = extensions(&assembly.set_gateway(parsed_gateway(8080)))[0].clone();
        let delta = assembly.set_publish(parsed(&publish("p1", "a.example.com", 1)));
        let scopes = delta.all.upserts.into_iter().filter(|it| it.type_url == SCOPE);
        (scopes.collect::<Vec<_>>(), door)
    };
    let module = Module { file: "/module/libimp.so".into(), state: "{}".into() };
    let (inside, after) = (scopes(Door::Module(module)), scopes(Door::AfterModule));
    assert_eq!(inside.0, after.0);
    assert_eq!(*inside.1.plain.unwrap(), after.1, "what an Envoy without the module gets");
    let without = scopes(Door::ExtAuthz);
    assert_eq!(after.1, without.1);
    assert_ne!(after.0, without.0, "nobody reads it there");
}
