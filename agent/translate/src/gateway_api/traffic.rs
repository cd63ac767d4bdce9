//! How calls go to backends: `BackendTrafficPolicy` of Envoy Gateway, timeouts of Gateway API.

use imp_grammar::classes::{self, Class};
use serde_json::{Value, json};

use super::object::{Owner, TRAFFIC, set};
use super::refusal::{Refusal, need};
use super::{duration, security};
use crate::ir::{self, Balance};

/// The defaults of routes and backends.
const TIMEOUT_MS: u32 = 15_000;
const CONNECT_MS: u32 = 5_000;

/// As on our own Envoys.
const MAX_CONCURRENT: u32 = 10_000;
const MAX_RETRIES: u32 = 100;
const EJECTION_INTERVAL_MS: u32 = 1_000;
const MOST_EJECTED: u32 = 99;

/// The policy of a route's rules.
pub(super) fn of(class: &Class, route: &ir::Route) -> Result<Option<Value>, Refusal> {
    let at = || format!("route {}", route.id);
    let Some(first) = route.backends.first() else { return Ok(None) };
    let backend = &first.backend;
    let alike = |it: &ir::WeightedBackend| {
        let (a, b) = (&it.backend, backend);
        a.balance == b.balance
            && a.connect_timeout_ms == b.connect_timeout_ms
            && (a.settings.retries, &a.settings.ejection, &a.settings.health_check)
                == (b.settings.retries, &b.settings.ejection, &b.settings.health_check)
    };
    if !route.backends.iter().all(alike) {
        let why = "its backends have different settings, and the class has one of each per route";
        return Err(Refusal::unsaid(at(), why));
    }
    if !class.has_policies {
        refuse_changed(class, route, backend)?;
        return Ok(None);
    }
    Ok(Some(spec(route, backend)))
}

/// Refuses what differs from the defaults, where the class has its own.
fn refuse_changed(class: &Class, route: &ir::Route, backend: &ir::Backend) -> Result<(), Refusal> {
    let default = ir::Settings::default();
    let changed = [
        (route.stream.is_some(), classes::STREAMS),
        (route.stream.is_none() && route.timeout_ms != TIMEOUT_MS, classes::TIMEOUTS),
        (backend.connect_timeout_ms != CONNECT_MS, classes::CONNECT_TIMEOUT),
        (backend.settings.retries != default.retries, classes::RETRIES),
        (backend.settings.ejection != default.ejection, classes::OUTLIER_DETECTION),
        (backend.settings.health_check.is_some(), classes::HEALTH_CHECK),
        (backend.balance != Balance::RoundRobin, classes::LB_POLICY),
    ];
    let mut changed = changed.into_iter().filter(|(is_changed, _)| *is_changed);
    changed.try_for_each(|(_, feature)| need(class, feature, || format!("route {}", route.id)))
}

/// The time limits of a rule, in Gateway API itself.
pub(super) fn timeouts(class: &Class, route: &ir::Route) -> Option<Value> {
    let limit = if route.stream.is_some() { 0 } else { route.timeout_ms };
    class.can(classes::TIMEOUTS).then(|| json!({ "request": duration::of_ms(limit) }))
}

fn spec(route: &ir::Route, backend: &ir::Backend) -> Value {
    let balance = match backend.balance {
        Balance::RoundRobin => "RoundRobin",
        Balance::LeastRequest => "LeastRequest",
        Balance::Random => "Random",
    };
    let mut timeout = json!({ "tcp": {
        "connectTimeout": duration::of_ms(backend.connect_timeout_ms),
    }});
    if let Some(stream) = &route.stream {
        let idle = json!({ "streamIdleTimeout": duration::of_ms(stream.idle_ms) });
        set(&mut timeout, "http", idle);
    }
    let mut spec = json!({
        "loadBalancer": { "type": balance },
        "timeout": timeout,
        "circuitBreaker": {
            "maxConnections": MAX_CONCURRENT,
            "maxPendingRequests": MAX_CONCURRENT,
            "maxParallelRequests": MAX_CONCURRENT,
            "maxParallelRetries": MAX_RETRIES,
        },
        "httpUpgrade": upgrades(route, backend),
    });
    if backend.settings.retries > 0 {
        set(&mut spec, "retry", retry(backend.settings.retries));
    }
    if let Some(health) = health(backend) {
        set(&mut spec, "healthCheck", health);
    }
    spec
}

/// Without a list Envoy Gateway allows `websocket` everywhere.
fn upgrades(route: &ir::Route, backend: &ir::Backend) -> Value {
    let stream = route.stream.as_ref().filter(|_| !backend.http2);
    let allowed: Vec<_> = stream.map_or_else(
        || vec![json!({ "type": "none" })],
        |stream| stream.upgrades.iter().map(|it| json!({ "type": it })).collect(),
    );
    json!(allowed)
}

/// Conditions under which no upstream has seen the call.
fn retry(attempts: u32) -> Value {
    json!({
        "numRetries": attempts,
        "retryOn": { "triggers": ["connect-failure", "refused-stream", "reset-before-request"] },
        "perRetry": { "backOff": { "baseInterval": "5ms", "maxInterval": "100ms" } },
    })
}

fn health(backend: &ir::Backend) -> Option<Value> {
    let named = |it: &ir::Endpoint| matches!(it.host, ir::EndpointHost::Name(_));
    let has_choice = backend.endpoints.len() > 1 || backend.endpoints.iter().any(named);
    let mut json = json!({ "panicThreshold": 1 });
    let ejection = backend.settings.ejection.as_ref().filter(|_| has_choice);
    if let Some(ejection) = ejection {
        let passive = json!({
            "splitExternalLocalOriginErrors": true,
            "consecutiveLocalOriginFailures": ejection.failures,
            "consecutiveGatewayErrors": ejection.failures,
            "consecutive5XxErrors": 0,
            "interval": duration::of_ms(EJECTION_INTERVAL_MS),
            "baseEjectionTime": duration::of_ms(ejection.ejection_ms),
            "maxEjectionPercent": MOST_EJECTED,
        });
        set(&mut json, "passive", passive);
    }
    let check = backend.settings.health_check.as_ref();
    if let Some(check) = check {
        set(&mut json, "active", active(check));
    }
    (ejection.is_some() || check.is_some()).then_some(json)
}

fn active(check: &ir::HealthCheck) -> Value {
    let mut json = json!({
        "timeout": duration::of_ms(check.timeout_ms),
        "interval": duration::of_ms(check.interval_ms),
        "healthyThreshold": check.healthy,
        "unhealthyThreshold": check.unhealthy,
    });
    match &check.path {
        None => set(&mut json, "type", json!("TCP")),
        Some(path) => {
            let mut http = json!({ "path": path });
            if let Some(host) = &check.host {
                set(&mut http, "hostname", json!(host));
            }
            set(&mut json, "type", json!("HTTP"));
            set(&mut json, "http", http);
        }
    }
    json
}

/// A policy for an `HTTPRoute`, or for one of its rules, which then has no other.
pub(super) fn policy(
    owner: &Owner<'_>,
    name: &str,
    route: &str,
    rule: Option<&str>,
    mut spec: Value,
) -> Value {
    set(&mut spec, "targetRefs", json!([security::target(route, rule)]));
    owner.of_spec(TRAFFIC, name, spec)
}
