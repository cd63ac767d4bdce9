//! Bounds on the size of a resource. The control plane checks them before it stores, the agent
//! before it parses, with the same result.

use std::fmt;

use imp_grammar::caps::{self, Cap};
use imp_grammar::path::{Matcher, Pattern, matcher};
use prost::Message as _;

use crate::config as pb;
use crate::policies;
use pb::{path_match, policy, value_match};

mod size;

/// The part of a resource that is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The violated bound.
    pub cap: &'static Cap,
    /// The position: `api_services/0/routes/2/headers`; empty for the whole.
    pub at: String,
    /// The actual amount.
    pub found: usize,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cap, at, found } = self;
        let place = if at.is_empty() { String::new() } else { format!("{at}: ") };
        write!(f, "{place}{found} {}, {}", cap.unit.words(), cap.words())
    }
}

impl std::error::Error for Exceeded {}

/// The publish's share of its tenant's quota in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes as the gateway stores it: each route with its policies, once per hostname.
    pub served_bytes: usize,
    /// The number of regular expressions.
    pub regexes: usize,
    /// Endpoints that every Envoy checks.
    pub checked_endpoints: usize,
}

/// Checks a whole publish: everything is counted, nothing is parsed.
pub fn publish(publish: &pb::Publish) -> Result<Share, Exceeded> {
    let publish = policies::present(publish);
    let listed = &publish.policies;
    within(&caps::PUBLISH_BYTES, "", size::publish(&publish))?;
    within(&caps::SERVICES_PER_PUBLISH, "api_services", publish.api_services.len())?;
    within(&caps::HOSTNAMES_PER_PUBLISH, "hostnames", publish.hostnames.len())?;
    let kept_out = publish.kept_out_hosts.len();
    within(&caps::KEPT_OUT_HOSTS_PER_PUBLISH, "kept_out_hosts", kept_out)?;
    let services = &publish.api_services;
    let count = |of: fn(&pb::ApiService) -> usize| services.iter().map(of).sum::<usize>();
    within(&caps::ROUTES_PER_PUBLISH, "api_services", count(|s| s.routes.len()))?;
    within(&caps::ENDPOINTS_PER_PUBLISH, "api_services", count(endpoints))?;
    let regexes = count(regexes);
    within(&caps::REGEXES_PER_PUBLISH, "api_services", regexes)?;
    for (index, one) in services.iter().enumerate() {
        check_service(one, listed)
            .map_err(|error| error.below(&format!("api_services/{index}")))?;
    }
    check_policies(listed)?;
    let served: usize = services.iter().map(|service| served(service, listed)).sum();
    let served_bytes = served.saturating_mul(publish.hostnames.len().max(1));
    within(&caps::PUBLISH_HELD_BYTES, "", served_bytes)?;
    Ok(Share { served_bytes, regexes, checked_endpoints: count(checked_endpoints) })
}

impl Share {
    /// Checks the API's limits. Agents do not, so that publishes accepted earlier are still served.
    pub fn check(self) -> Result<Self, Exceeded> {
        within(&caps::PUBLISH_SERVED_BYTES, "", self.served_bytes)?;
        within(&caps::CHECKED_ENDPOINTS_PER_PUBLISH, "api_services", self.checked_endpoints)?;
        Ok(self)
    }
}

/// Whether agents of former releases refuse a service for its size: they take 1,500 routes and 256 KiB.
pub fn is_large_service(service: &pb::ApiService, listed: &[pb::Policy]) -> bool {
    const ROUTES: usize = 1_500;
    const BYTES: usize = 256 * 1_024;
    service.routes.len() > ROUTES || service_bytes(service, listed) > BYTES
}

fn service_bytes(service: &pb::ApiService, listed: &[pb::Policy]) -> usize {
    size::service(service) + size::policies(service, listed).bytes
}

/// Checks one service, whose policies are indices of this list.
pub fn service(service: &pb::ApiService, listed: &[pb::Policy]) -> Result<(), Exceeded> {
    check_service(service, listed)?;
    check_policies(listed)
}

fn check_service(service: &pb::ApiService, listed: &[pb::Policy]) -> Result<(), Exceeded> {
    let policies = size::policies(service, listed);
    within(&caps::SERVICE_BYTES, "", size::service(service) + policies.bytes)?;
    within(&caps::ROUTES_PER_SERVICE, "routes", service.routes.len())?;
    within(&caps::BACKENDS_PER_SERVICE, "backends", service.backends.len())?;
    within(&caps::POLICIES_PER_SERVICE, "policies", policies.count)?;
    within(&caps::REGEXES_PER_SERVICE, "routes", regexes(service))?;
    for (index, backend) in service.backends.iter().enumerate() {
        let at = format!("backends/{index}/endpoints");
        within(&caps::ENDPOINTS_PER_BACKEND, &at, backend.endpoints.len())?;
    }
    for (index, route) in service.routes.iter().enumerate() {
        check_route(route).map_err(|error| error.below(&format!("routes/{index}")))?;
    }
    Ok(())
}

/// Checks a gateway.
pub fn gateway(gateway: &pb::Gateway) -> Result<(), Exceeded> {
    within(&caps::LISTENERS_PER_GATEWAY, "listeners", gateway.listeners.len())?;
    let hops = gateway.settings.map_or(0, |settings| settings.trusted_hops);
    within(
        &caps::TRUSTED_HOPS,
        "settings/trusted_hops",
        usize::try_from(hops).unwrap_or(usize::MAX),
    )
}

fn check_route(route: &pb::Route) -> Result<(), Exceeded> {
    within(&caps::METHODS_PER_ROUTE, "methods", route.methods.len())?;
    within(&caps::UPGRADES_PER_ROUTE, "upgrades", route.upgrades.len())?;
    within(&caps::MATCHERS_PER_ROUTE, "headers", route.headers.len() + route.query.len())?;
    within(&caps::BACKENDS_PER_ROUTE, "backends", route.backends.len())
}

fn check_policies(policies: &[pb::Policy]) -> Result<(), Exceeded> {
    for (index, one) in policies.iter().enumerate() {
        let at = format!("policies/{index}");
        match &one.kind {
            Some(policy::Kind::RequestHeaders(_) | policy::Kind::ResponseHeaders(_)) => {
                within(&caps::HEADERS_PER_POLICY, &at, parts(one))?;
            }
            Some(policy::Kind::IpAccess(_)) => {
                within(&caps::NETWORKS_PER_POLICY, &at, parts(one))?;
            }
            Some(policy::Kind::Cors(cors)) => {
                within(&caps::ORIGINS_PER_POLICY, &at, cors.allow_origins.len())?;
                within(&caps::METHODS_PER_ROUTE, &at, cors.allow_methods.len())?;
                within(&caps::HEADERS_PER_POLICY, &at, cors.allow_headers.len())?;
                within(&caps::HEADERS_PER_POLICY, &at, cors.expose_headers.len())?;
            }
            Some(policy::Kind::RateLimit(_)) | None => {}
        }
    }
    Ok(())
}

fn within(cap: &'static Cap, at: &str, found: usize) -> Result<(), Exceeded> {
    if cap.admits(found) { Ok(()) } else { Err(Exceeded { cap, at: at.to_owned(), found }) }
}

impl Exceeded {
    fn below(self, step: &str) -> Self {
        let at = if self.at.is_empty() { step.to_owned() } else { format!("{step}/{}", self.at) };
        Self { at, ..self }
    }
}

/// The number of headers, networks and origins in a policy.
fn parts(policy: &pb::Policy) -> usize {
    match &policy.kind {
        Some(policy::Kind::RequestHeaders(h) | policy::Kind::ResponseHeaders(h)) => {
            h.set.len() + h.add.len() + h.remove.len()
        }
        Some(policy::Kind::IpAccess(access)) => access.allow.len() + access.deny.len(),
        Some(policy::Kind::Cors(cors)) => {
            let origin = |origin: &String| if origin.contains("*.") { EXPRESSION_PARTS } else { 1 };
            let origins: usize = cors.allow_origins.iter().map(origin).sum();
            let (headers, exposed) = (cors.allow_headers.len(), cors.expose_headers.len());
            origins + cors.allow_methods.len() + headers + exposed
        }
        Some(policy::Kind::RateLimit(_)) | None => 0,
    }
}

fn endpoints(service: &pb::ApiService) -> usize {
    service.backends.iter().map(|backend| backend.endpoints.len()).sum()
}

fn checked_endpoints(service: &pb::ApiService) -> usize {
    service.backends.iter().map(checked).sum()
}

/// How many endpoints of a backend Envoys check.
fn checked(backend: &pb::Backend) -> usize {
    if backend.health_check.is_some() { backend.endpoints.len() } else { 0 }
}

/// How many expressions a gateway compiles for a service.
fn regexes(service: &pb::ApiService) -> usize {
    let of_value =
        |value: &&pb::ValueMatch| matches!(value.kind, Some(value_match::Kind::Regex(_)));
    let of_route = |route: &pb::Route| {
        let path = route.path.as_ref().and_then(|path| path.kind.as_ref());
        usize::from(matches!(path, Some(path_match::Kind::Regex(_))))
            + route.headers.iter().chain(&route.query).filter(of_value).count()
    };
    service.routes.iter().map(of_route).sum()
}

/// Approximate size of a route in Envoy, without its text.
const ROUTE_OVERHEAD: usize = 512;

/// Approximate size in Envoy of the answer to other methods.
const OTHER_METHODS_OVERHEAD: usize = 256;

/// Approximate size in Envoy of a header, network or origin of a policy. Many short ones are as
/// expensive to create and destroy as few long ones, and a worker that destroys a former revision
/// serves nobody meanwhile.
const PART_OVERHEAD: usize = 128;

/// An origin with a wildcard becomes an expression, which Envoy compiles for each route.
const EXPRESSION_PARTS: usize = 16;

/// A condition on a query parameter becomes an expression of nine instructions for each byte.
const QUERY_BYTE: usize = 128;

fn query_bytes(route: &pb::Route) -> usize {
    use value_match::Kind;
    let of_condition = |condition: &pb::ValueMatch| match &condition.kind {
        Some(Kind::Exact(text) | Kind::Prefix(text)) => condition.name.len() + text.len(),
        Some(Kind::Present(_)) => condition.name.len(),
        Some(Kind::Regex(_)) | None => 0,
    };
    route.query.iter().map(of_condition).sum::<usize>() * QUERY_BYTE
}

/// A rewrite with variables, or that removes the base path, is an expression of each route.
const STRIP_BYTES: usize = 256;
const COMPUTED_BYTES: usize = 1_024;

fn rewrite_bytes(route: &pb::Route) -> usize {
    match &route.rewrite {
        Some(rewrite) if rewrite.strip_base_path => STRIP_BYTES,
        Some(rewrite) if rewrite.path.contains('{') => COMPUTED_BYTES,
        Some(_) | None => 0,
    }
}

/// Each backend with TLS has its own copy of certificate authorities in Envoy; the system's are
/// many.
const TLS_BYTES: usize = 64 * 1_024;

/// A checked endpoint has a connection, timers and calls of its own in every Envoy, traffic or not.
const CHECKED_ENDPOINT_BYTES: usize = 8 * 1_024;

/// How much longer than its path the expression is that stands for it: text that callers may spell in
/// several ways is written out.
fn spelled_out(route: &pb::Route) -> usize {
    use path_match::Kind;
    let (text, read) = match route.path.as_ref().and_then(|path| path.kind.as_ref()) {
        Some(Kind::Exact(text)) => (text, Pattern::exact(text)),
        Some(Kind::Prefix(text)) => (text, Pattern::prefix(text)),
        Some(Kind::Template(text)) => (text, Pattern::template(text)),
        Some(Kind::Regex(_)) | None => return 0,
    };
    match read.map(|pattern| matcher("/", &pattern)) {
        Ok(Matcher::Expression { text: expression, .. }) => {
            expression.len().saturating_sub(text.len())
        }
        // Invalid paths are refused later.
        Ok(Matcher::Exact(_) | Matcher::Prefix(_)) | Err(_) => 0,
    }
}

/// Each policy is repeated in each of its routes in Envoy's configuration.
fn served(service: &pb::ApiService, listed: &[pb::Policy]) -> usize {
    let weight = |policy: &pb::Policy| policy.encoded_len() + parts(policy) * PART_OVERHEAD;
    let is_cors = |policy: &pb::Policy| matches!(policy.kind, Some(policy::Kind::Cors(_)));
    let of_route = |route: &pb::Route| {
        let policies = || policies::of_route(listed, route).flatten();
        let expressions = query_bytes(route) + rewrite_bytes(route) + spelled_out(route);
        let own = ROUTE_OVERHEAD + size::route(route) + expressions;
        let once = own + policies().map(weight).sum::<usize>();
        // Preflights take another route, with the same content.
        let is_asked = !(route.methods.is_empty() && route.headers.is_empty());
        let preflight = is_asked && policies().any(is_cors);
        let other_methods = if route.methods.is_empty() { 0 } else { OTHER_METHODS_OVERHEAD };
        once * (1 + usize::from(preflight)) + other_methods
    };
    let of_backend = |backend: &pb::Backend| {
        let tls = backend.tls.as_ref().map_or(0, |_| TLS_BYTES);
        backend.encoded_len() + tls + checked(backend) * CHECKED_ENDPOINT_BYTES
    };
    let backends: usize = service.backends.iter().map(of_backend).sum();
    service.routes.iter().map(of_route).sum::<usize>() + backends
}
