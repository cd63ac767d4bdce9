//! A publish at one revision, with the services frozen in it.

use std::collections::HashMap;

use imp_core::policy::{Headers, Policy, PolicyConfig};
use imp_core::product_publish::{AuthMode, FrozenApiService, PublishStatus};
use imp_core::route::{
    Backend, BackendProtocol, LbPolicy, PathMatch, Route, ValueMatch, ValueRule,
};
use imp_core::{ApiServiceId, BackendId};
use imp_proto::config as pb;
use imp_store::compile::DesiredPublish;
use thiserror::Error;

/// A route of a frozen service names a backend that is not frozen with it.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("API service {service}: route '{route}' names the unknown backend '{backend}'")]
pub struct UnknownBackend {
    service: ApiServiceId,
    route: String,
    backend: String,
}

/// Why a service cannot be rendered.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error(transparent)]
    UnknownBackend(#[from] UnknownBackend),
    /// A newer release stored it. Without it, the service would be open to what the policy refuses.
    #[error(
        "API service {service}: policy '{policy}' is of type '{kind}', which this release does not know"
    )]
    UnknownPolicy { service: ApiServiceId, policy: String, kind: String },
}

/// Everything that a gateway needs to serve it.
pub fn publish(publish: &DesiredPublish) -> Result<pb::Publish, MessageError> {
    use pb::publish::AuthMode as Mode;
    let spec = &publish.spec;
    let auth_mode = match spec.auth_mode {
        AuthMode::None => Mode::None,
        AuthMode::ApiKey => Mode::ApiKey,
        AuthMode::Oauth2 => Mode::Oauth2,
        AuthMode::Jwt => Mode::Jwt,
        AuthMode::Mtls => Mode::Mtls,
    };
    Ok(pb::Publish {
        id: publish.id.to_string(),
        tenant_id: publish.tenant_id.to_string(),
        product_id: spec.product_id.to_string(),
        gateway_id: spec.gateway_id.to_string(),
        environment: spec.environment.as_str().to_owned(),
        auth_mode: auth_mode.into(),
        hostnames: spec.hostnames.iter().cloned().map(super::canonical).collect(),
        base_path: spec.base_path.clone(),
        revision: publish.revision.unsigned_abs(),
        suspended: publish.status == PublishStatus::Suspended,
        api_services: publish.api_services.iter().map(api_service).collect::<Result<_, _>>()?,
    })
}

/// One service of it.
pub fn api_service(frozen: &FrozenApiService) -> Result<pb::ApiService, MessageError> {
    let spec = &frozen.spec;
    refuse_unknown_policies(frozen)?;
    let backends = spec.backend_names();
    let policies = |of: Option<&str>| {
        let own = spec.policies.iter().filter(|policy| policy.route.as_deref() == of);
        own.map(policy).collect()
    };
    let route = |route: &Route| {
        Ok::<_, MessageError>(pb::Route {
            backends: weighted(frozen.id, route, &backends)?,
            policies: policies(Some(route.name.as_str())),
            ..bare_route(route)
        })
    };
    Ok(pb::ApiService {
        id: frozen.id.to_string(),
        name: spec.name.clone(),
        routes: spec.routes.iter().map(route).collect::<Result<_, _>>()?,
        backends: spec.backends.iter().map(backend).collect(),
        policies: policies(None),
    })
}

fn refuse_unknown_policies(frozen: &FrozenApiService) -> Result<(), MessageError> {
    let unknown = |policy: &&Policy| matches!(policy.config, PolicyConfig::Unknown(_));
    frozen.spec.policies.iter().find(unknown).map_or(Ok(()), |policy| {
        let (policy, kind) = (policy.name.clone(), policy.config.kind().to_owned());
        Err(MessageError::UnknownPolicy { service: frozen.id, policy, kind })
    })
}

/// The route without what it refers to.
fn bare_route(route: &Route) -> pb::Route {
    use pb::path_match::Kind;
    let path = match route.path.clone() {
        PathMatch::Exact(path) => Kind::Exact(path),
        PathMatch::Prefix(path) => Kind::Prefix(path),
        PathMatch::Template(path) => Kind::Template(path),
        PathMatch::Regex(regex) => Kind::Regex(regex),
    };
    let rewrite = route.rewrite.clone().map(|rewrite| pb::Rewrite {
        path: rewrite.path.unwrap_or_default(),
        host: rewrite.host.map(super::canonical).unwrap_or_default(),
    });
    pb::Route {
        id: route.id.to_string(),
        name: route.name.clone(),
        path: Some(pb::PathMatch { kind: Some(path) }),
        methods: route.methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
        headers: route.headers.iter().map(value_match).collect(),
        query: route.query.iter().map(value_match).collect(),
        priority: route.priority,
        rewrite,
        timeout_ms: route.timeout_ms.unwrap_or_default(),
        ..Default::default()
    }
}

fn value_match(rule: &ValueMatch) -> pb::ValueMatch {
    use pb::value_match::Kind;
    let kind = match rule.value.clone() {
        ValueRule::Exact(value) => Kind::Exact(value),
        ValueRule::Prefix(value) => Kind::Prefix(value),
        ValueRule::Regex(regex) => Kind::Regex(regex),
        ValueRule::Present(present) => Kind::Present(present),
    };
    pb::ValueMatch { name: rule.name.clone(), kind: Some(kind) }
}

/// Routes name backends by name or id; on the wire it is the id.
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
    let protocol = match backend.protocol {
        BackendProtocol::Http1 => Protocol::Http1,
        BackendProtocol::Http2 => Protocol::Http2,
    };
    let lb_policy = match backend.lb_policy {
        LbPolicy::RoundRobin => Balance::RoundRobin,
        LbPolicy::LeastRequest => Balance::LeastRequest,
        LbPolicy::Random => Balance::Random,
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
    }
}

fn policy(policy: &Policy) -> pb::Policy {
    use pb::policy::Kind;
    let kind = match &policy.config {
        // Refused before; an agent takes no policy without a kind.
        PolicyConfig::Unknown(_) => return pb::Policy { id: policy.id.to_string(), kind: None },
        PolicyConfig::RateLimit(limit) => Kind::RateLimit(pb::RateLimit {
            requests: limit.requests,
            window_seconds: limit.per.seconds(),
        }),
        PolicyConfig::RequestHeaders(list) => Kind::RequestHeaders(headers(list)),
        PolicyConfig::ResponseHeaders(list) => Kind::ResponseHeaders(headers(list)),
        PolicyConfig::IpAccess(access) => {
            Kind::IpAccess(pb::IpAccess { allow: access.allow.clone(), deny: access.deny.clone() })
        }
        PolicyConfig::Cors(cors) => Kind::Cors(pb::Cors {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            max_age_seconds: cors.max_age_seconds,
            allow_credentials: cors.allow_credentials,
        }),
    };
    pb::Policy { id: policy.id.to_string(), kind: Some(kind) }
}

fn headers(headers: &Headers) -> pb::Headers {
    let pairs = |list: &[imp_core::policy::Header]| {
        let pair = |header: &imp_core::policy::Header| pb::Header {
            name: header.name.clone(),
            value: header.value.clone(),
        };
        list.iter().map(pair).collect()
    };
    pb::Headers {
        set: pairs(&headers.set),
        add: pairs(&headers.add),
        remove: headers.remove.clone(),
    }
}
