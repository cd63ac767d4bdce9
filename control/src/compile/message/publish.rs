//! A publish at one revision, with the services frozen in it.

use std::collections::HashMap;

use imp_core::api_service::ApiServiceSpec;
use imp_core::policy::{Effective, Policy, PolicyConfig};
use imp_core::product_publish::{
    AuthMode, Delivery, FrozenApiService, ProductPublishSpec, PublishStatus,
};
use imp_core::route::{
    Backend, BackendProtocol, LbPolicy, PathMatch, Route, ValueMatch, ValueRule,
};
use imp_core::{ApiServiceId, BackendId};
use imp_proto::config as pb;
use imp_proto::policies::List;
use imp_store::compile::DesiredPublish;
use thiserror::Error;

use super::backend::settings;
use super::policy::policy;

/// A route of a frozen service names a backend that is not frozen with it.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("API service {service}: route '{route}' names the unknown backend '{backend}'")]
pub struct UnknownBackend {
    service: ApiServiceId,
    route: String,
    backend: String,
}

/// The reason why a service cannot be rendered.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error(transparent)]
    UnknownBackend(#[from] UnknownBackend),
    /// A newer release stored the policy. Rendering the service without it would open what the
    /// policy refuses.
    #[error(
        "API service {service}: policy '{policy}' is of type '{kind}', which this release does not know"
    )]
    UnknownPolicy { service: ApiServiceId, policy: String, kind: String },
    /// A newer release stored the word.
    #[error("{field}: this release does not know '{word}'")]
    UnknownWord { field: &'static str, word: &'static str },
    /// A newer release stored it, with a newer database of time zones.
    #[error("time_zone: this release does not know '{0}'")]
    UnknownTimeZone(String),
    /// Of a plan's version.
    #[error("terms: {0}")]
    UnreadableTerms(String),
}

/// The message for the gateways of the cluster. A suspended publish answers every call itself, so
/// it is sent even when this release does not know all of its policies.
pub fn served(desired: &DesiredPublish) -> Result<pb::Publish, MessageError> {
    use MessageError::{UnknownPolicy, UnknownWord};
    match publish(desired) {
        Err(UnknownPolicy { .. } | UnknownWord { .. })
            if desired.status == PublishStatus::Suspended =>
        {
            message(&closed(desired))
        }
        told => told,
    }
}

/// A suspended publish without the parts that this release does not know: every call is refused
/// anyway.
fn closed(desired: &DesiredPublish) -> DesiredPublish {
    let mut api_services = desired.api_services.clone();
    for service in &mut api_services {
        service.spec.policies.retain(|policy| !is_unknown(policy));
    }
    api_services.retain(|service| service.spec.newer_word().is_none());
    let DesiredPublish { id, tenant_id, status, revision, ref spec, .. } = *desired;
    let mut spec = spec.clone();
    if matches!(spec.auth_mode, AuthMode::Newer(_)) {
        spec.auth_mode = AuthMode::ApiKey;
    }
    let kept_out_hosts = desired.kept_out_hosts.clone();
    DesiredPublish { id, tenant_id, status, revision, spec, api_services, kept_out_hosts }
}

/// Converts the publish with everything that a gateway needs to serve it.
pub fn publish(publish: &DesiredPublish) -> Result<pb::Publish, MessageError> {
    refuse_newer_words(&publish.spec)?;
    message(publish)
}

fn message(publish: &DesiredPublish) -> Result<pb::Publish, MessageError> {
    use pb::publish::AuthMode as Mode;
    use pb::publish::Delivery as By;
    let spec = &publish.spec;
    let delivery = match spec.delivery {
        Delivery::Auto => By::Auto,
        Delivery::Xds => By::Xds,
        Delivery::Crd => By::Crd,
        // Refused above.
        Delivery::Newer(_) => By::Auto,
    };
    let mut policies = List::default();
    let services = publish.api_services.iter().map(|frozen| api_service(frozen, &mut policies));
    let api_services = services.collect::<Result<_, _>>()?;
    let auth_mode = match spec.auth_mode {
        AuthMode::None => Mode::None,
        AuthMode::ApiKey => Mode::ApiKey,
        AuthMode::Oauth2 => Mode::Oauth2,
        AuthMode::Jwt => Mode::Jwt,
        AuthMode::Mtls => Mode::Mtls,
        // Refused above, and by agents.
        AuthMode::Newer(_) => Mode::Unspecified,
    };
    let keys = spec.api_key.as_ref();
    Ok(pb::Publish {
        id: publish.id.to_string(),
        tenant_id: publish.tenant_id.to_string(),
        product_id: spec.product_id.to_string(),
        gateway_id: spec.gateway_id.to_string(),
        environment: spec.environment.as_str().to_owned(),
        auth_mode: auth_mode.into(),
        key_header: keys.and_then(|keys| keys.header.clone()).unwrap_or_default(),
        key_query: keys.and_then(|keys| keys.query.clone()).unwrap_or_default(),
        hostnames: spec.hostnames.iter().cloned().map(super::canonical).collect(),
        base_path: spec.base_path.clone(),
        revision: publish.revision.unsigned_abs(),
        suspended: publish.status == PublishStatus::Suspended,
        api_services,
        policies: policies.finish(),
        kept_out_hosts: publish.kept_out_hosts.clone(),
        delivery: delivery.into(),
    })
}

/// Converts one service and adds its policies to the list. A policy that applies to several routes
/// is listed once.
pub fn api_service(
    frozen: &FrozenApiService,
    list: &mut List,
) -> Result<pb::ApiService, MessageError> {
    let spec = &frozen.spec;
    refuse_unknown_policies(frozen)?;
    super::refuse(spec.newer_word())?;
    let backends = spec.backend_names();
    let effective = Effective::of(&spec.policies);
    let mut places: HashMap<*const Policy, u32> = HashMap::new();
    let mut routes = Vec::with_capacity(spec.routes.len());
    for route in &spec.routes {
        let applies = effective.on(&route.name).into_iter();
        let place = |it: &Policy| {
            *places.entry(std::ptr::from_ref(it)).or_insert_with(|| list.push(policy(it)))
        };
        routes.push(pb::Route {
            policy_indexes: applies.map(place).collect(),
            policies: former_list(spec, Some(&route.name)),
            backends: weighted(frozen.id, route, &backends)?,
            ..bare_route(route)
        });
    }
    Ok(pb::ApiService {
        id: frozen.id.to_string(),
        name: spec.name.clone(),
        routes,
        backends: spec.backends.iter().map(backend).collect(),
        policies: former_list(spec, None),
    })
}

/// Refuses words that this release does not know.
fn refuse_newer_words(spec: &ProductPublishSpec) -> Result<(), MessageError> {
    let words = [
        ("environment", spec.environment.newer_word()),
        ("auth_mode", spec.auth_mode.newer_word()),
        ("delivery", spec.delivery.newer_word()),
    ];
    super::refuse(words.into_iter().find_map(|(field, word)| Some((field, word?))))
}

fn refuse_unknown_policies(frozen: &FrozenApiService) -> Result<(), MessageError> {
    let mut policies = frozen.spec.policies.iter();
    policies.find(|policy| is_unknown(policy)).map_or(Ok(()), |policy| {
        let (policy, kind) = (policy.name.clone(), policy.config.kind().to_owned());
        Err(MessageError::UnknownPolicy { service: frozen.id, policy, kind })
    })
}

fn is_unknown(policy: &Policy) -> bool {
    matches!(policy.config, PolicyConfig::Unknown(_))
}

/// The policy list for agents of the former release, which resolve precedence themselves;
/// `proto/README.md` says for how long.
fn former_list(spec: &ApiServiceSpec, route: Option<&str>) -> Vec<pb::Policy> {
    let own = spec.policies.iter().filter(|policy| policy.route.as_deref() == route);
    own.map(policy).collect()
}

/// The route without its backends and policies.
fn bare_route(route: &Route) -> pb::Route {
    use pb::path_match::Kind;
    let path = match route.path.clone() {
        PathMatch::Exact(path) => Some(Kind::Exact(path)),
        PathMatch::Prefix(path) => Some(Kind::Prefix(path)),
        PathMatch::Template(path) => Some(Kind::Template(path)),
        PathMatch::Regex(regex) => Some(Kind::Regex(regex)),
        // Refused above, and by agents, here and below.
        PathMatch::Newer(_) => None,
    };
    let rewrite = route.rewrite.clone().map(|rewrite| pb::Rewrite {
        path: rewrite.path.unwrap_or_default(),
        host: rewrite.host.map(super::canonical).unwrap_or_default(),
        strip_base_path: rewrite.strip_base_path,
    });
    pb::Route {
        id: route.id.to_string(),
        name: route.name.clone(),
        path: Some(pb::PathMatch { kind: path }),
        methods: route.methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
        headers: route.headers.iter().map(value_match).collect(),
        query: route.query.iter().map(value_match).collect(),
        priority: route.priority,
        rewrite,
        timeout_ms: route.timeout_ms.unwrap_or_default(),
        stream: route.stream,
        idle_timeout_ms: route.idle_timeout_ms.unwrap_or_default(),
        upgrades: route.upgrades.clone(),
        ..Default::default()
    }
}

fn value_match(rule: &ValueMatch) -> pb::ValueMatch {
    use pb::value_match::Kind;
    let kind = match rule.value.clone() {
        ValueRule::Exact(value) => Some(Kind::Exact(value)),
        ValueRule::Prefix(value) => Some(Kind::Prefix(value)),
        ValueRule::Regex(regex) => Some(Kind::Regex(regex)),
        ValueRule::Present(present) => Some(Kind::Present(present)),
        ValueRule::Newer(_) => None,
    };
    pb::ValueMatch { name: rule.name.clone(), kind }
}

/// Resolves backends, which routes name by name or id, to ids for the wire.
fn weighted(
    service: ApiServiceId,
    route: &Route,
    known: &HashMap<String, BackendId>,
) -> Result<Vec<pb::WeightedBackend>, UnknownBackend> {
    let resolve = |(name, weight): (&str, u32)| match known.get(name) {
        Some(id) => Ok(pb::WeightedBackend { backend_id: id.to_string(), weight }),
        None => {
            Err(UnknownBackend { service, route: route.name.clone(), backend: name.to_owned() })
        }
    };
    route.weighted().into_iter().map(resolve).collect()
}

fn backend(backend: &Backend) -> pb::Backend {
    use pb::backend::{LbPolicy as Balance, Protocol};
    let protocol = match (backend.protocol, &backend.tls) {
        (BackendProtocol::Http1, None) => Protocol::Http1,
        (BackendProtocol::Http2, None) => Protocol::Http2,
        (BackendProtocol::Http1, Some(_)) => Protocol::Http1Tls,
        (BackendProtocol::Http2, Some(_)) => Protocol::Http2Tls,
        (BackendProtocol::Newer(_), _) => Protocol::Unspecified,
    };
    let lb_policy = match backend.lb_policy {
        LbPolicy::RoundRobin => Balance::RoundRobin,
        LbPolicy::LeastRequest => Balance::LeastRequest,
        LbPolicy::Random => Balance::Random,
        LbPolicy::Newer(_) => Balance::Unspecified,
    };
    let endpoint = |endpoint: &imp_core::route::Endpoint| pb::Endpoint {
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
        weight: endpoint.weight,
    };
    pb::Backend {
        id: backend.id.to_string(),
        name: backend.name.clone(),
        endpoints: backend.endpoints.iter().map(endpoint).collect(),
        protocol: protocol.into(),
        lb_policy: lb_policy.into(),
        connect_timeout_ms: backend.connect_timeout_ms.unwrap_or_default(),
        ..settings(backend)
    }
}
