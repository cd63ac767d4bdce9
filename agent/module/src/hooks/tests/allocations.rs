//! What a call that passes allocates: its stream, and nothing else.

use super::*;
use crate::call::route_metadata::KEYS;
use crate::mock::allocations;

const HOST: &str = "a.example.com";

/// One publish at a host, and one key, as real ones are: ids are UUIDs, and the plan has two limits.
fn placed() -> (Arc<State>, String) {
    mock::install();
    let state = State::default();
    let id = |number: u8| format!("{number:08x}-0000-7000-8000-000000000000");
    let publish = pb::Publish {
        id: id(1),
        tenant_id: id(2),
        product_id: id(3),
        environment: "prod".into(),
        gateway_id: "gateway".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        hostnames: vec![HOST.into()],
        base_path: "/orders".into(),
        ..Default::default()
    };
    let access = PublishAccess::from(&publish);
    let route = format!("{} {} /orders", access.digest(), id(4));
    state.engine.put_publish(access);
    let limit = |name: &str, window: pb::limit::Window| pb::Limit {
        name: name.into(),
        amount: 1_000_000,
        window: window.into(),
        window_seconds: 60,
        on_exceed: pb::limit::OnExceed::Block.into(),
        ..Default::default()
    };
    let entitlement = pb::Entitlement {
        id: id(5),
        tenant_id: id(2),
        customer_id: id(6),
        product_id: id(3),
        environment: "prod".into(),
        plan_id: id(7),
        state: pb::entitlement::State::Active.into(),
        limits: vec![
            limit("rate", pb::limit::Window::Rolling),
            limit("quota", pb::limit::Window::CalendarMonth),
        ],
        ..Default::default()
    };
    state.engine.put_entitlement(Entitlement::parse(&entitlement).unwrap());
    let credential = pb::Credential {
        id: id(8),
        consumer_id: id(9),
        subscription_id: id(5),
        key_sha256: Sha256::digest(KEY.as_bytes()).to_vec().into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    };
    state.engine.put_credential(Credential::parse(&credential).unwrap());
    state.hosts.put(80, HOST);
    state.open();
    (Arc::new(state), route)
}

#[test]
fn a_call_that_passes_allocates_its_stream_alone() {
    let (state, route) = placed();
    let config = Arc::into_raw(Arc::new(Door::new(state, Some("gateway".into())))).cast();
    let said = [(ROUTE, route.as_str()), (KEYS, "apikey?key")];
    let said = said.map(|(key, value)| ((NAMESPACE.to_owned(), key.to_owned()), value.to_owned()));
    let allocated = [(); 3].map(|()| {
        let mock = Mock { metadata: said.clone().into(), has_cluster: true, ..Mock::default() }
            .with("x-imp-host", HOST)
            .with("x-api-key", KEY);
        let pointer = mock.pointer();
        let allocated = allocations::of(|| {
            let filter = http::envoy_dynamic_module_on_http_filter_new(config, pointer);
            let request = http::envoy_dynamic_module_on_http_filter_request_headers;
            assert_eq!(request(pointer, filter, true), status::CONTINUE);
            http::envoy_dynamic_module_on_http_filter_response_headers(pointer, filter, true);
            http::envoy_dynamic_module_on_http_filter_stream_complete(pointer, filter);
            http::envoy_dynamic_module_on_http_filter_destroy(filter);
        });
        assert_eq!(mock.header("x-imp-plan").unwrap().len(), 36);
        assert_eq!(mock.response.borrow().len(), 2);
        allocated
    });
    http::envoy_dynamic_module_on_http_filter_config_destroy(config);
    // The first call of a consumer in an hour begins its count.
    assert_eq!(allocated[1..], [1, 1], "{allocated:?}");
}

#[test]
fn a_host_as_it_should_be_allocates_nothing() {
    let (state, _) = placed();
    let config = config::ScopeKey { state: config::Paths::default(), port: 80, tls: false };
    let key = Box::into_raw(Box::new(ScopeKey { config, state })).cast::<c_void>();
    for host in [HOST, "a.example.com:8080"] {
        let mock = Mock::default().with(":authority", host).with("x-imp-host", "-");
        let allocated = allocations::of(|| {
            early::envoy_dynamic_module_on_early_header_mutation_mutate(key, mock.pointer());
        });
        assert_eq!(mock.header("x-imp-host").as_deref(), Some(HOST));
        assert_eq!(allocated, 0, "{host}");
    }
    early::envoy_dynamic_module_on_early_header_mutation_config_destroy(key);
}
