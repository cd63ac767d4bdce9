//! Resources of the contract to start from.

use imp_proto::config as pb;
use sha2::{Digest as _, Sha256};

pub(crate) const GATEWAY: &str = "00000000-0000-7000-8000-000000000001";
pub(crate) const KEY: &str = "imp_secret";

/// A distinct id per kind and number.
pub(crate) fn id(kind: u8, number: usize) -> String {
    format!("00000000-0000-7000-80{kind:02x}-{number:012x}")
}

pub(crate) fn gateway(port: u16) -> pb::Gateway {
    let listener = pb::Listener {
        name: "http".into(),
        port: port.into(),
        protocol: pb::listener::Protocol::Http.into(),
        hostname: String::new(),
    };
    pb::Gateway { id: GATEWAY.into(), listeners: vec![listener], ..Default::default() }
}

pub(crate) fn host(number: usize) -> String {
    format!("h{number}.example.com")
}

/// One route "/" to one backend at its own host; needs a key.
pub(crate) fn publish(number: usize, upstream: u16) -> pb::Publish {
    let endpoint = pb::Endpoint { host: "127.0.0.1".into(), port: upstream.into(), weight: 1 };
    let backend = pb::Backend {
        id: id(2, number),
        name: "upstream".into(),
        endpoints: vec![endpoint],
        connect_timeout_ms: 1_000 + u32::try_from(number).unwrap(),
        ..Default::default()
    };
    let route = pb::Route {
        id: id(3, number),
        name: "all".into(),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) }),
        backends: vec![pb::WeightedBackend { backend_id: id(2, number), weight: 1 }],
        ..Default::default()
    };
    let service = pb::ApiService {
        id: id(4, number),
        name: "service".into(),
        routes: vec![route],
        backends: vec![backend],
        policies: vec![],
    };
    pb::Publish {
        id: id(1, number),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        gateway_id: GATEWAY.into(),
        environment: "prod".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        hostnames: vec![host(number)],
        base_path: "/".into(),
        revision: 1,
        suspended: false,
        api_services: vec![service],
        policies: Vec::new(),
        key_header: String::new(),
        key_query: String::new(),
        kept_out_hosts: Vec::new(),
        delivery: 0,
    }
}

/// The same at another revision, marked by a response header.
pub(crate) fn at_revision(mut publish: pb::Publish, revision: u64) -> pb::Publish {
    publish.revision = revision;
    let header = pb::Header { name: "x-revision".into(), value: revision.to_string() };
    let headers = pb::Headers { set: vec![header], ..Default::default() };
    let policy =
        pb::Policy { id: id(5, 1), kind: Some(pb::policy::Kind::ResponseHeaders(headers)) };
    for service in &mut publish.api_services {
        service.policies = vec![policy.clone()];
    }
    publish
}

/// The agent accepts it; RE2 does not know this escape.
pub(crate) const POISON: &str = r"\u0041";

/// Envoy's error message about it.
pub(crate) const POISON_WORDS: &str = "invalid escape sequence";

pub(crate) fn poisoned(mut publish: pb::Publish, revision: u64) -> pb::Publish {
    publish.revision = revision;
    let kind = Some(pb::path_match::Kind::Regex(format!("/{POISON}")));
    for route in publish.api_services.iter_mut().flat_map(|service| &mut service.routes) {
        route.path = Some(pb::PathMatch { kind: kind.clone() });
    }
    publish
}

pub(crate) fn entitlement(limits: Vec<pb::Limit>) -> pb::Entitlement {
    pb::Entitlement {
        id: id(6, 1),
        tenant_id: "tenant".into(),
        customer_id: "customer".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        plan_id: "plan".into(),
        plan_version: 3,
        state: pb::entitlement::State::Active.into(),
        limits,
        ..Default::default()
    }
}

pub(crate) fn quota(amount: u64) -> pb::Limit {
    pb::Limit {
        name: "month".into(),
        unit: pb::limit::Unit::Requests.into(),
        amount,
        window: pb::limit::Window::CalendarMonth.into(),
        window_seconds: 0,
        on_exceed: pb::limit::OnExceed::Block.into(),
        scope: pb::limit::Scope::Subscription.into(),
        utc_offset_minutes: 0,
        time_zone: String::new(),
        anchor_day: 0,
    }
}

pub(crate) fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

pub(crate) fn credential() -> pb::Credential {
    pb::Credential {
        id: id(7, 1),
        consumer_id: "consumer".into(),
        client_app_id: "app".into(),
        subscription_id: id(6, 1),
        key_sha256: hash(KEY).into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    }
}
