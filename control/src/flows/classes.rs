//! What gateways of a class cannot do by Gateway API. Agents refuse the same; here it is refused
//! before it is accepted.

use imp_core::Violation;
use imp_core::gateway::{Gateway, GatewaySettings};
use imp_core::policy::PolicyConfig;
use imp_core::product_publish::{AuthMode, Delivery, FrozenApiService, ProductPublishSpec};
use imp_core::route::{
    Backend, BackendProtocol, LbPolicy, PathMatch, Route, ValueMatch, ValueRule,
};
use imp_grammar::caps;
use imp_grammar::classes::{self, Class, Feature};
use imp_grammar::hosts::{EndpointHost, is_wildcard};
use imp_grammar::path::{Matcher, matcher};

use crate::refusal::Refusal;

const CODE: &str = "unsupported_by_class";

/// The defaults of routes and backends.
const TIMEOUT_MS: u32 = 15_000;
const CONNECT_MS: u32 = 5_000;
const RETRIES: u32 = 2;

/// Whether the publish is delivered by Gateway API.
pub(super) fn by_gateway_api(spec: &ProductPublishSpec, gateway: &Gateway) -> bool {
    spec.delivery == Delivery::Crd || !gateway.spec.gateway_class.has_xds()
}

/// Refuses what the class of the gateway cannot do. `at` is the pointer to what the body has in place
/// of a spec.
pub(super) fn refuse_lacking(
    spec: &ProductPublishSpec,
    gateway: &Gateway,
    services: &[FrozenApiService],
    at: Option<&str>,
) -> Result<(), Refusal> {
    if !by_gateway_api(spec, gateway) {
        return Ok(());
    }
    let word = gateway.spec.gateway_class.as_str();
    if spec.delivery == Delivery::Xds {
        let detail = format!("gateways of class '{word}' are served by Gateway API only");
        let pointer = at.unwrap_or("/delivery");
        return Err(Refusal::invalid(pointer, "unsupported_delivery", detail));
    }
    let Some(class) = gateway.spec.gateway_class.class() else { return Ok(()) };
    let mut lacking = Lacking { class, at, found: Vec::new() };
    lacking.publish(spec, gateway);
    for (index, service) in services.iter().enumerate() {
        // Services that come from the product have no place in the body.
        let pointer = match spec.api_services.is_empty() {
            true => "/api_services".to_owned(),
            false => format!("/api_services/{index}"),
        };
        lacking.service(&pointer, spec, service);
    }
    lacking.into_result()
}

/// What is lacking, each feature once for each place in the body.
struct Lacking<'a> {
    class: &'static Class,
    at: Option<&'a str>,
    found: Vec<(Feature, Violation)>,
}

impl Lacking<'_> {
    fn need(&mut self, feature: Feature, pointer: &str, what: impl FnOnce() -> String) {
        let pointer = self.at.unwrap_or(pointer);
        let is_told = |(told, at): &(Feature, Violation)| *told == feature && at.pointer == pointer;
        if self.class.can(feature) || self.found.iter().any(is_told) {
            return;
        }
        let (what, word, class) = (what(), feature.word, self.class.word);
        let detail = format!("{what} needs '{word}', which gateways of class '{class}' cannot do");
        self.found.push((feature, Violation { pointer: pointer.to_owned(), code: CODE, detail }));
    }

    fn into_result(self) -> Result<(), Refusal> {
        let mut lacking: Vec<_> = self.found.into_iter().map(|(_, violation)| violation).collect();
        lacking.truncate(caps::FAULTS_TOLD.size());
        if lacking.is_empty() { Ok(()) } else { Err(Refusal::Unsupported { code: CODE, lacking }) }
    }

    fn publish(&mut self, spec: &ProductPublishSpec, gateway: &Gateway) {
        if spec.auth_mode != AuthMode::None {
            self.need(classes::DECISIONS, "/auth_mode", || "the publish".to_owned());
        }
        for (index, hostname) in spec.hostnames.iter().enumerate().filter(|(_, it)| is_wildcard(it))
        {
            let pointer = format!("/hostnames/{index}");
            self.need(classes::WILDCARDS, &pointer, || format!("the hostname '{hostname}'"));
        }
        if gateway.spec.settings != GatewaySettings::default() {
            let what = || format!("gateway '{}'", gateway.spec.name);
            self.need(classes::GATEWAY_SETTINGS, "/gateway_id", what);
        }
    }

    fn service(&mut self, pointer: &str, spec: &ProductPublishSpec, service: &FrozenApiService) {
        let name = &service.spec.name;
        for route in &service.spec.routes {
            for feature in of_route(&spec.base_path, route) {
                self.need(feature, pointer, || {
                    format!("route '{}' of service '{name}'", route.name)
                });
            }
        }
        for backend in &service.spec.backends {
            let what = || format!("backend '{}' of service '{name}'", backend.name);
            of_backend(backend).for_each(|feature| self.need(feature, pointer, what));
        }
        for policy in &service.spec.policies {
            let what = || format!("policy '{}' of service '{name}'", policy.name);
            if let Some(feature) = of_policy(&policy.config) {
                self.need(feature, pointer, what);
            }
        }
    }
}

fn needed<const N: usize>(needs: [(bool, Feature); N]) -> impl Iterator<Item = Feature> {
    needs.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, feature)| feature)
}

fn of_route(base: &str, route: &Route) -> impl Iterator<Item = Feature> {
    // Text that has one spelling needs no expression.
    let pattern = route.path.pattern().ok();
    let expression = pattern.map(|it| matcher(base, &it));
    let is_expression = matches!(expression, Some(Matcher::Expression { .. }))
        || matches!(route.path, PathMatch::Regex(_));
    let is_host = |it: &ValueMatch| it.name.eq_ignore_ascii_case("host");
    let plain = |it: &ValueMatch| matches!(it.value, ValueRule::Exact(_)) && !is_host(it);
    let absent = |it: &ValueMatch| matches!(it.value, ValueRule::Present(false));
    let expressed = |it: &ValueMatch| matches!(it.value, ValueRule::Regex(_));
    let rewrite = route.rewrite.clone().unwrap_or_default();
    let computed = rewrite.is_computed();
    let timeout = route.timeout_ms.is_some_and(|ms| ms != TIMEOUT_MS);
    needed([
        (is_expression, classes::EXPRESSION_PATHS),
        (!route.methods.is_empty(), classes::METHODS),
        (route.headers.iter().any(|it| !plain(it) && !absent(it)), classes::HEADER_EXPRESSIONS),
        (route.headers.iter().any(absent), classes::HEADER_ABSENCE),
        (route.query.iter().any(|it| !expressed(it)), classes::QUERY_VALUES),
        (route.query.iter().any(expressed), classes::QUERY_EXPRESSIONS),
        (route.backends.len() > 1, classes::WEIGHTS),
        (computed, classes::REWRITE_COMPUTED),
        (!computed && rewrite.path.is_some(), classes::REWRITE_PATH),
        (rewrite.host.is_some(), classes::REWRITE_HOST),
        (route.stream, classes::STREAMS),
        (timeout && !route.stream, classes::TIMEOUTS),
    ])
}

fn of_backend(backend: &Backend) -> impl Iterator<Item = Feature> {
    let is_name =
        |host: &str| matches!(imp_grammar::hosts::endpoint(host), Ok(EndpointHost::Name(_)));
    let retries = backend.retries.as_ref().is_some_and(|it| it.attempts != RETRIES);
    let unverified = backend.tls.as_ref().is_some_and(|tls| tls.insecure);
    needed([
        (backend.protocol == BackendProtocol::Http2, classes::HTTP2_BACKENDS),
        (backend.lb_policy != LbPolicy::RoundRobin, classes::LB_POLICY),
        (backend.connect_timeout_ms.is_some_and(|ms| ms != CONNECT_MS), classes::CONNECT_TIMEOUT),
        (retries, classes::RETRIES),
        (backend.outlier_detection.is_some(), classes::OUTLIER_DETECTION),
        (backend.health_check.is_some(), classes::HEALTH_CHECK),
        (backend.tls.is_some() && !unverified, classes::UPSTREAM_TLS),
        (unverified, classes::UPSTREAM_TLS_UNVERIFIED),
        (backend.endpoints.iter().any(|it| is_name(&it.host)), classes::BACKEND_NAMES),
    ])
}

/// Each policy is named, so that a new one does not compile before it is decided who enforces it.
fn of_policy(policy: &PolicyConfig) -> Option<Feature> {
    match policy {
        PolicyConfig::RateLimit(_) => Some(classes::DECISIONS),
        PolicyConfig::RequestHeaders(_) => Some(classes::REQUEST_HEADERS),
        PolicyConfig::ResponseHeaders(_) => Some(classes::RESPONSE_HEADERS),
        PolicyConfig::IpAccess(_) => Some(classes::IP_ACCESS),
        PolicyConfig::Cors(_) => Some(classes::CORS),
        PolicyConfig::Unknown(_) => None,
    }
}
