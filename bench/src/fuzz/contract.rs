//! What the API accepts the agent must accept: they are deployed separately, and otherwise a
//! publish would be accepted and then fail.

use std::collections::HashSet;

use imp_agent::intake;
use imp_control::compile::message;
use imp_control::rest::body::Json;
use imp_core::api_service::ApiServiceSpec;
use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::product_publish::{FrozenApiService, ProductPublishSpec, PublishStatus};
use imp_core::route::PathMatch;
use imp_core::upstream::UpstreamPolicy;
use imp_core::{ApiServiceId, GatewayId, Meta, ProductPublishId, TenantId, grammar as api};
use imp_proto::config as pb;
use imp_store::compile::DesiredPublish;
use imp_translate::{Assembly, ir};

/// Bodies of services, gateways and publishes, as in `rest_bodies`: accepted ones must compile, be
/// accepted by the agent and render.
pub(super) fn specs(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let Ok(body) = Json::parse(body) else { return };
    match kind % 3 {
        0 => {
            let Ok(spec) = body.into_spec::<ApiServiceSpec>() else { return };
            let public = UpstreamPolicy::default();
            let mut endpoints = spec.backends.iter().flat_map(|backend| &backend.endpoints);
            let reachable = endpoints.all(|endpoint| public.check(&endpoint.host).is_ok());
            // The two rules that REST adds to a spec's own.
            if reachable && has_distinct_ids(&spec) {
                let mut publish = publish();
                let service = FrozenApiService { id: ApiServiceId::new(), revision: 1, spec };
                publish.api_services.push(service);
                agent_takes_publish(&publish);
            }
        }
        1 => {
            let Ok(spec) = body.into_spec::<GatewaySpec>() else { return };
            agent_takes_gateway(spec);
        }
        _ => {
            let Ok(spec) = body.into_spec::<ProductPublishSpec>() else { return };
            agent_takes_publish(&DesiredPublish { spec, ..publish() });
        }
    }
}

fn has_distinct_ids(spec: &ApiServiceSpec) -> bool {
    let routes: HashSet<_> = spec.routes.iter().map(|part| part.id).collect();
    let backends: HashSet<_> = spec.backends.iter().map(|part| part.id).collect();
    let policies: HashSet<_> = spec.policies.iter().map(|part| part.id).collect();
    (routes.len(), backends.len(), policies.len())
        == (spec.routes.len(), spec.backends.len(), spec.policies.len())
}

fn publish() -> DesiredPublish {
    let spec = serde_json::json!({
        "product_id": uuid(1), "gateway_id": uuid(2), "cluster_id": uuid(3),
        "environment": "prod", "auth_mode": "api_key", "hostnames": ["a.example"],
    });
    DesiredPublish {
        id: ProductPublishId::new(),
        tenant_id: TenantId::new(),
        status: PublishStatus::Pending,
        revision: 1,
        spec: serde_json::from_value(spec).expect("a spec"),
        api_services: Vec::new(),
        kept_out_hosts: Vec::new(),
    }
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn agent_takes_publish(desired: &DesiredPublish) {
    let message = message::publish(desired).expect("a checked service knows its backends");
    let resource = message::resource(&message);
    let taken = intake::publish(resource.value().clone(), resource.name());
    let taken = taken.map_err(|refused| refused.reason);
    let publish = taken.expect("the API accepted it, the agent refuses it");
    let mut assembly = Assembly::new(super::agent::options());
    let gateway = gateway_message(&publish.routes.gateway_id, 80, "");
    assembly.set_gateway(ir::Gateway::parse(&gateway).expect("a gateway"));
    let id = publish.routes.id.clone();
    assembly.set_publish(publish.routes);
    assert!(assembly.requirements(&id).is_some(), "taken, not rendered");
}

fn agent_takes_gateway(spec: GatewaySpec) {
    let gateway = Gateway {
        id: GatewayId::new(),
        tenant_id: TenantId::new(),
        spec,
        meta: Meta::new(chrono::DateTime::UNIX_EPOCH),
    };
    let message = message::gateway(&gateway).expect("words that this release knows");
    let taken = ir::Gateway::parse(&message).map_err(|error| error.to_string());
    taken.expect("the API accepted the gateway, the agent refuses it");
}

/// The first byte selects the grammar, the rest is the text.
pub(super) fn grammar(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 10 {
        0 => hostname(text),
        1 => agent_takes_path_of(PathMatch::Exact, Path::Exact, text),
        2 => agent_takes_path_of(PathMatch::Prefix, Path::Prefix, text),
        3 => agent_takes_path_of(PathMatch::Template, Path::Template, text),
        4 if api::base_path(text).is_ok() => {
            agent_takes(text, |publish| publish.base_path = text.to_owned());
        }
        5 if api::header_name(text).is_ok() => agent_takes_match(text, "value"),
        6 if api::writable_header(text).is_ok() => agent_takes_header(text, "value"),
        7 if api::header_value(text).is_ok() => agent_takes_header("x-name", text),
        8 if UpstreamPolicy::default().check(text).is_ok() => upstream(text),
        9 => listener(text),
        _ => {}
    }
}

fn agent_takes_path_of(api: fn(String) -> PathMatch, wire: Path, text: &str) {
    if api(text.to_owned()).check().is_ok() {
        agent_takes_path(wire, text);
    }
}

fn hostname(text: &str) {
    let Ok(canonical) = api::hostname_pattern(text) else { return };
    assert_eq!(
        api::hostname_pattern(&canonical).as_ref(),
        Ok(&canonical),
        "{text:?}: not canonical"
    );
    agent_takes(text, |publish| publish.hostnames = vec![canonical]);
}

/// A listener's name and hostname, as a caller writes them.
fn listener(text: &str) {
    let (name, hostname) = text.split_once(' ').unwrap_or(("http", text));
    let listener = serde_json::json!({
        "name": name, "port": 80, "protocol": "HTTP", "hostname": hostname,
    });
    let body = serde_json::json!({ "name": "g", "listeners": [listener] }).to_string();
    let Ok(spec) = Json::parse(body.as_bytes()).and_then(|body| body.into_spec()) else { return };
    agent_takes_gateway(spec);
}

fn upstream(host: &str) {
    let endpoint = pb::Endpoint { host: host.trim_matches(['[', ']']).into(), port: 80, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    agent_takes(host, |publish| publish.api_services[0].backends = vec![backend]);
}

fn agent_takes_match(name: &str, value: &str) {
    use pb::value_match::Kind;
    let kind = Some(Kind::Exact(value.to_owned()));
    let matcher = pb::ValueMatch { name: name.to_owned(), kind };
    agent_takes(name, |publish| publish.api_services[0].routes[0].headers = vec![matcher]);
}

fn agent_takes_header(name: &str, value: &str) {
    let header = pb::Header { name: name.to_owned(), value: value.to_owned() };
    let headers = pb::Headers { set: vec![header], ..Default::default() };
    let kind = Some(pb::policy::Kind::RequestHeaders(headers));
    let policy = pb::Policy { id: "p".to_owned(), kind };
    agent_takes(name, |publish| publish.api_services[0].policies = vec![policy]);
}

/// A way to match a path.
pub(super) enum Path {
    Exact,
    Prefix,
    Template,
    Regex,
}

pub(super) fn agent_takes_path(kind: Path, text: &str) {
    use pb::path_match::Kind;
    let kind = match kind {
        Path::Exact => Kind::Exact(text.to_owned()),
        Path::Prefix => Kind::Prefix(text.to_owned()),
        Path::Template => Kind::Template(text.to_owned()),
        Path::Regex => Kind::Regex(text.to_owned()),
    };
    let path = Some(pb::PathMatch { kind: Some(kind) });
    agent_takes(text, |publish| publish.api_services[0].routes[0].path = path);
}

fn agent_takes(what: &str, change: impl FnOnce(&mut pb::Publish)) {
    let mut publish = publish_message("p", "g");
    change(&mut publish);
    let taken = ir::Publish::parse(&publish);
    assert!(taken.is_ok(), "the API accepted {what:?}, the agent refuses it: {taken:?}");
}

/// A small publish of the contract.
pub(super) fn publish_message(id: &str, gateway_id: &str) -> pb::Publish {
    let endpoint = pb::Endpoint { host: "8.8.8.8".into(), port: 80, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    let route = pb::Route {
        id: "r".into(),
        name: "all".into(),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) }),
        backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
        ..Default::default()
    };
    let service = pb::ApiService {
        id: "s".into(),
        routes: vec![route],
        backends: vec![backend],
        ..Default::default()
    };
    pb::Publish {
        id: id.into(),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        gateway_id: gateway_id.into(),
        environment: "prod".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        hostnames: vec!["a.example".into()],
        base_path: "/".into(),
        revision: 1,
        api_services: vec![service],
        ..Default::default()
    }
}

/// A gateway of the contract with one plain listener.
pub(super) fn gateway_message(id: &str, port: u32, hostname: &str) -> pb::Gateway {
    let protocol = pb::listener::Protocol::Http.into();
    let listener = pb::Listener { name: "http".into(), port, protocol, hostname: hostname.into() };
    pb::Gateway { id: id.into(), listeners: vec![listener], ..Default::default() }
}
