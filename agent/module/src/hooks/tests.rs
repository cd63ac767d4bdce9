//! The hooks, called as Envoy calls them.

mod allocations;
mod sequences;
mod signatures;
mod uploads;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use imp_enforce::{Credential, Entitlement, PublishAccess};
use imp_proto::config as pb;
use sha2::{Digest as _, Sha256};

use super::early::{self, ScopeKey};
use super::http;
use crate::abi::{Buffer, attribute, status};
use crate::call::route_metadata::{ACCESS, NAMESPACE, PUBLISH, ROUTE};
use crate::config;
use crate::door::Door;
use crate::mock::{self, Mock};
use crate::state::State;

const KEY: &str = "imp_secret";

/// One publish that asks for a key, one that does not, one subscription of 2 calls a minute.
fn state() -> Arc<State> {
    mock::install();
    let state = State::default();
    let publish = |id: &str, mode: pb::publish::AuthMode| {
        state.engine.put_publish(PublishAccess::from(&pb::Publish {
            id: id.into(),
            tenant_id: "tenant".into(),
            product_id: "product".into(),
            environment: "prod".into(),
            gateway_id: "gateway".into(),
            auth_mode: mode.into(),
            ..Default::default()
        }));
    };
    publish("closed", pb::publish::AuthMode::ApiKey);
    publish("open", pb::publish::AuthMode::None);
    let limit = pb::Limit {
        name: "rate".into(),
        unit: pb::limit::Unit::Requests.into(),
        amount: 2,
        window: pb::limit::Window::Rolling.into(),
        window_seconds: 60,
        on_exceed: pb::limit::OnExceed::Block.into(),
        scope: pb::limit::Scope::Subscription.into(),
        utc_offset_minutes: 0,
        time_zone: String::new(),
        anchor_day: 0,
    };
    let entitlement = pb::Entitlement {
        id: "sub".into(),
        tenant_id: "tenant".into(),
        customer_id: "customer".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        plan_id: "plan".into(),
        state: pb::entitlement::State::Active.into(),
        limits: vec![limit],
        ..Default::default()
    };
    state.engine.put_entitlement(Entitlement::parse(&entitlement).unwrap());
    let credential = pb::Credential {
        id: "cred".into(),
        consumer_id: "consumer".into(),
        subscription_id: "sub".into(),
        key_sha256: Sha256::digest(KEY.as_bytes()).to_vec().into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    };
    state.engine.put_credential(Credential::parse(&credential).unwrap());
    state.open();
    Arc::new(state)
}

fn to(publish: &str) -> Mock {
    let said = [(PUBLISH, publish), (ROUTE, "route"), (ACCESS, "")];
    let said = said.map(|(key, value)| ((NAMESPACE.to_owned(), key.to_owned()), value.to_owned()));
    Mock { metadata: said.into(), has_cluster: true, ..Mock::default() }
        .with("x-request-id", "r-1")
        .with("x-imp-consumer", "forged")
}

/// A stream from its first hook to its last. Returns what the request hook said.
struct Stream {
    config: *const c_void,
    filter: *const c_void,
}

impl Stream {
    fn open(state: &Arc<State>, mock: &Mock) -> Self {
        let door = Arc::new(Door::new(state.clone(), Some("gateway".into())));
        let config = Arc::into_raw(door).cast();
        let filter = http::envoy_dynamic_module_on_http_filter_new(config, mock.pointer());
        Self { config, filter }
    }

    fn request(&self, mock: &Mock) -> u32 {
        http::envoy_dynamic_module_on_http_filter_request_headers(mock.pointer(), self.filter, true)
    }

    fn response(&self, mock: &Mock) {
        let (pointer, filter) = (mock.pointer(), self.filter);
        http::envoy_dynamic_module_on_http_filter_response_headers(pointer, filter, true);
    }

    /// Envoy may destroy the configuration before the last stream.
    fn close(self, mock: &Mock) {
        http::envoy_dynamic_module_on_http_filter_config_destroy(self.config);
        http::envoy_dynamic_module_on_http_filter_stream_complete(mock.pointer(), self.filter);
        http::envoy_dynamic_module_on_http_filter_destroy(self.filter);
    }
}

fn call(state: &Arc<State>, mock: &Mock) -> u32 {
    let stream = Stream::open(state, mock);
    let said = stream.request(mock);
    stream.response(mock);
    stream.close(mock);
    said
}

/// Status, problem code and `retry-after` of a refusal.
fn refused(state: &Arc<State>, mock: &Mock) -> (u32, String, String) {
    assert_eq!(call(state, mock), status::STOP);
    let answer = mock.answer.borrow().clone().unwrap();
    let header = |name: &str| answer.headers.iter().find(|(key, _)| key == name);
    assert_eq!(header("content-type").unwrap().1, "application/problem+json");
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["status"], answer.status);
    let code = body["code"].as_str().unwrap().to_owned();
    assert_eq!(answer.details, format!("imp_{code}"));
    let retry = header("retry-after").map_or(String::new(), |(_, value)| value.clone());
    (answer.status, code, retry)
}

#[test]
fn a_call_with_a_key_passes_with_its_identity_and_without_the_key() {
    let state = state();
    let mock = to("closed").with("x-api-key", KEY);
    assert_eq!(call(&state, &mock), status::CONTINUE);
    assert_eq!(mock.header("x-imp-consumer").as_deref(), Some("consumer"));
    assert_eq!(mock.header("x-imp-subscription").as_deref(), Some("sub"));
    assert_eq!(mock.header("x-api-key"), None);
    let names: Vec<_> = mock.response.borrow().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["ratelimit-policy", "ratelimit"]);
    let (_, counters) = state.engine.usage_changed_since(0);
    assert_eq!((counters.len(), counters[0].allowed), (1, 1));
}

#[test]
fn a_public_call_passes_and_nobody_says_who_it_is() {
    let mock = to("open").with("x-api-key", "whatever");
    assert_eq!(call(&state(), &mock), status::CONTINUE);
    assert_eq!((mock.header("x-imp-consumer"), mock.header("x-api-key")), (None, None));
    assert!(mock.answer.borrow().is_none());
}

#[test]
fn each_refusal_says_why() {
    let state = state();
    let refused = |mock: Mock| refused(&state, &mock);
    let plain = |status, code: &str| (status, code.to_owned(), String::new());
    assert_eq!(refused(to("closed")), plain(401, "unauthenticated"));
    assert_eq!(refused(to("closed").with("x-api-key", "no")), plain(401, "unauthenticated"));
    let two = || to("closed").with("x-api-key", KEY);
    assert_eq!(refused(two().with("x-api-key", KEY)), plain(401, "unauthenticated"));
    assert_eq!(refused(two().with("x-api-key", "")), plain(401, "unauthenticated"));
    assert_eq!(refused(to("closed").with("x-api-key", [0xff, 0])), plain(401, "unauthenticated"));
    assert_eq!(refused(to("nothing")), plain(403, "unknown_publish"));
    for _ in 0..2 {
        assert_eq!(call(&state, &two()), status::CONTINUE);
    }
    let (status, code, retry) = refused(two());
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    assert!((1..=60).contains(&retry.parse::<u32>().unwrap()));
}

#[test]
fn a_route_without_an_owner_is_closed_and_no_route_is_none() {
    let state = state();
    let owned = |has_cluster| Mock { has_cluster, ..Mock::default() };
    assert_eq!(refused(&state, &owned(true)).1, "unknown_publish");
    assert_eq!(refused(&state, &owned(false)).1, "no_route");
}

/// Envoy has the route, so somebody knows the publish: the module will soon. What it knows to be gone
/// is refused for good.
#[test]
fn a_place_that_was_never_known_is_asked_for_again_and_one_that_was_left_is_not() {
    let state = state();
    let placed = pb::Publish {
        id: "placed".into(),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        gateway_id: "gateway".into(),
        auth_mode: pb::publish::AuthMode::None.into(),
        hostnames: vec!["a.example.com".into()],
        ..Default::default()
    };
    let access = PublishAccess::from(&placed);
    let at = |host: &str| {
        let route = format!("{} route /", access.digest());
        let metadata = [((NAMESPACE.to_owned(), ROUTE.to_owned()), route)].into();
        let mock = Mock { metadata, has_cluster: true, ..Mock::default() };
        mock.with("x-imp-host", host)
    };
    let unknown = (503, "enforcement_unavailable".to_owned(), "1".to_owned());
    assert_eq!(refused(&state, &at("a.example.com")), unknown);
    state.engine.put_publish(access.clone());
    assert_eq!(call(&state, &at("a.example.com")), status::CONTINUE);
    assert_eq!(refused(&state, &at("b.example.com")), unknown);
    state.engine.remove_publish("placed");
    let (status, code, _) = refused(&state, &at("a.example.com"));
    assert_eq!((status, code.as_str()), (404, "no_route"));
    assert_eq!(refused(&state, &at("")).1, "unknown_publish");
}

#[test]
fn nothing_passes_before_something_is_loaded() {
    mock::install();
    let (status, code, retry) = refused(&Arc::default(), &to("open"));
    assert_eq!((status, code.as_str(), retry.as_str()), (503, "enforcement_unavailable", "1"));
}

#[test]
fn grpc_gets_a_status_of_grpc() {
    let mock = to("closed").with("content-type", "application/grpc+proto");
    assert_eq!(call(&state(), &mock), status::STOP);
    let answer = mock.answer.borrow().clone().unwrap();
    let header = |name: &str| &answer.headers.iter().find(|(key, _)| key == name).unwrap().1;
    assert_eq!((answer.status, header("grpc-status").as_str()), (200, "16"));
    assert_eq!(header("grpc-message"), "unauthenticated: A valid API key is required");
    assert!(header("www-authenticate").starts_with("ApiKey"));
    let mock = to("closed").with("content-type", "application/grpc-web");
    assert_eq!(refused(&state(), &mock).0, 401);
}

#[test]
fn an_answer_may_run_the_hooks_of_its_own_stream() {
    let (state, mock) = (state(), to("closed"));
    let stream = Stream::open(&state, &mock);
    let (pointer, filter) = (mock.pointer(), stream.filter);
    mock.on_answer.set(Some(Box::new(move || {
        http::envoy_dynamic_module_on_http_filter_response_headers(pointer, filter, true);
    })));
    assert_eq!(stream.request(&mock), status::STOP);
    assert!(mock.response.borrow().is_empty(), "a refused call has no headers of an admitted one");
    stream.close(&mock);
}

#[test]
fn a_call_ends_with_its_status_and_its_bytes() {
    let (state, mut mock) = (state(), to("open"));
    mock.attributes = [
        (attribute::RESPONSE_CODE, 200),
        (attribute::RESPONSE_SIZE, 5),
        (attribute::REQUEST_SIZE, 7),
    ]
    .into();
    // Completed twice, and destroyed without an end: neither may fail.
    let stream = Stream::open(&state, &mock);
    assert_eq!(stream.request(&mock), status::CONTINUE);
    let (pointer, filter) = (mock.pointer(), stream.filter);
    http::envoy_dynamic_module_on_http_filter_stream_complete(pointer, filter);
    stream.close(&mock);
    let stream = Stream::open(&state, &mock);
    assert_eq!(stream.request(&mock), status::CONTINUE);
    http::envoy_dynamic_module_on_http_filter_config_destroy(stream.config);
    http::envoy_dynamic_module_on_http_filter_destroy(stream.filter);
}

#[test]
fn a_fault_refuses_the_call_and_no_other() {
    let state = state();
    state.fails.store(true, Ordering::Relaxed);
    assert_eq!(refused(&state, &to("open")).1, "internal");
    assert_eq!(state.faults.load(Ordering::Relaxed), 1);
    assert_eq!(call(&state, &to("open")), status::CONTINUE);
}

#[test]
fn routes_have_no_configuration_here() {
    mock::install();
    let (name, json) = (Buffer::of(b"door"), Buffer::of(b"{}"));
    assert!(http::envoy_dynamic_module_on_http_filter_per_route_config_new(name, json).is_null());
}

#[test]
fn a_wrong_configuration_is_refused_and_said() {
    mock::install();
    let new = http::envoy_dynamic_module_on_http_filter_config_new;
    let make = |name: &str, json: &str| {
        let (name, json) = (Buffer::of(name.as_bytes()), Buffer::of(json.as_bytes()));
        new(std::ptr::null_mut(), name, json)
    };
    assert!(make("door", r#"{"state": {}, "gate": "x"}"#).is_null());
    let last = mock::LOG.with_borrow(|log| log.last().cloned()).unwrap();
    assert!(last.contains("gate"), "{last}");
    assert!(make("gate", r#"{"state": {}}"#).is_null());
    let made = make("door", r#"{"state": {}}"#);
    assert!(!made.is_null());
    // A second place for the state of one process.
    assert!(make("door", r#"{"state": {"snapshot": "elsewhere"}}"#).is_null());
    http::envoy_dynamic_module_on_http_filter_config_destroy(made);
}

fn scope_key(state: &Arc<State>, tls: bool, mock: &Mock) -> Option<String> {
    let config = config::ScopeKey { state: config::Paths::default(), port: 80, tls };
    let key = Box::into_raw(Box::new(ScopeKey { config, state: state.clone() })).cast::<c_void>();
    assert!(early::envoy_dynamic_module_on_early_header_mutation_mutate(key, mock.pointer()));
    early::envoy_dynamic_module_on_early_header_mutation_config_destroy(key);
    mock.header("x-imp-host")
}

#[test]
fn the_key_of_the_scope_is_written_for_every_spelling() {
    let state = state();
    state.hosts.put(80, "a.example.com");
    state.hosts.put(80, "*.example.com");
    let key = |mock: &Mock| scope_key(&state, false, mock);
    let host = |host: &str| Mock::default().with(":authority", host);
    let dotted = host("A.example.com.:80");
    assert_eq!(key(&dotted).as_deref(), Some("a.example.com"));
    assert_eq!(dotted.header(":authority").as_deref(), Some("A.example.com:80"));
    assert_eq!(key(&host("a.example.com..")).as_deref(), Some("!400"));
    assert_eq!(key(&host("B.example.com")).as_deref(), Some("*.example.com"));
    assert_eq!(key(&host("example.com")).as_deref(), Some("!404"));
    assert_eq!(key(&host("a b")).as_deref(), Some("!400"));
    assert_eq!(key(&Mock::default()).as_deref(), Some("!400"));
    // What was said before counts only if it refuses the call.
    let said = |said: &str| host("a.example.com").with("x-imp-host", said);
    assert_eq!(key(&said("!many")).as_deref(), Some("!many"));
    for before in ["!421", "b.example.com", ""] {
        assert_eq!(key(&said(before)).as_deref(), Some("a.example.com"), "{before}");
    }
}

#[test]
fn the_host_is_the_one_of_the_handshake() {
    let state = state();
    state.hosts.put(80, "a.example.com");
    let key = |server_name: Option<&str>| {
        let server_name = server_name.map(str::to_owned);
        let mock = Mock { server_name, ..Mock::default() }.with(":authority", "a.example.com");
        scope_key(&state, true, &mock).unwrap()
    };
    assert_eq!(key(Some("A.example.com")), "a.example.com");
    assert_eq!(key(Some("b.example.com")), "!421");
    assert_eq!(key(None), "!421");
}

#[test]
fn a_fault_before_the_route_leads_to_no_scope() {
    let state = state();
    state.hosts.put(80, "a.example.com");
    state.fails.store(true, Ordering::Relaxed);
    let mock = Mock::default().with(":authority", "a.example.com").with("x-imp-host", "kept");
    assert_eq!(scope_key(&state, false, &mock).as_deref(), Some("!400"));
    assert_eq!(state.faults.load(Ordering::Relaxed), 1);
}

/// Requests of any bytes: nothing that a caller sends is a fault of the module, and nothing without
/// the key passes.
#[test]
fn no_request_is_a_fault() {
    use proptest::prelude::*;
    let state = state();
    state.hosts.put(80, "a.example.com");
    state.hosts.put(80, "*.example.com");
    let name = prop::sample::select(vec![
        "x-api-key",
        "authorization",
        "content-type",
        "x-request-id",
        "x-imp-host",
        ":authority",
    ]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "(Bearer |basic )?[a-zA-Z0-9,. %]{0,40}".prop_map(String::into_bytes),
        "[a-zA-Z0-9.:@\\[\\]*_-]{0,300}".prop_map(String::into_bytes),
        Just(b"application/grpc".to_vec()),
    ];
    let headers = prop::collection::vec((name, value), 0..8);
    let metadata = prop::option::of("[a-z]{0,6}|closed");
    let run = proptest::test_runner::Config {
        cases: if cfg!(miri) { 8 } else { 2_000 },
        ..Default::default()
    };
    proptest!(run, |(headers in headers, publish in metadata, has_cluster: bool)| {
        let said = publish.map(|publish| ((NAMESPACE.to_owned(), PUBLISH.to_owned()), publish));
        let mock = Mock { metadata: said.into_iter().collect(), has_cluster, ..Mock::default() };
        let mock = headers.iter().fold(mock, |mock, (name, value)| mock.with(name, value));
        let is_open = mock.metadata.values().any(|publish| publish == "open");
        let key = scope_key(&state, false, &mock).unwrap();
        let known = ["a.example.com", "*.example.com", "!400", "!404"].contains(&key.as_str());
        prop_assert!(known || mock_said(&headers, &key), "{key}");
        let said = call(&state, &mock);
        // Without a route, Envoy's own answer says what was wrong with the host.
        let refused = mock.header("x-imp-host").is_some_and(|key| key.starts_with('!'));
        let passes = is_open || (refused && mock.metadata.is_empty() && !has_cluster);
        prop_assert_eq!(said == status::CONTINUE, passes);
        prop_assert_eq!(mock.answer.borrow().is_none(), passes);
    });
    assert_eq!(state.faults.load(Ordering::Relaxed), 0);
}

/// Whether a header that came before had this key, which refuses the call.
fn mock_said(headers: &[(&str, Vec<u8>)], key: &str) -> bool {
    key.starts_with('!') && headers.iter().any(|(name, _)| *name == "x-imp-host")
}
