//! Routes and backends of an API service.

use std::collections::HashSet;

use imp_grammar::path::{self, PathFault, Pattern};
use imp_grammar::rewrite::Source;
use imp_grammar::{caps, features};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::Fault;
use crate::condition::unknown;
use crate::stored::{NewerChoice, choice, is_default, words};
use crate::{BackendId, Check, RouteId, Violations, condition, grammar};

pub use crate::backend_settings::{HealthCheck, OutlierDetection, Retries, UpstreamTls};
pub use crate::condition::{ValueMatch, ValueRule};
pub use crate::rewrite::Rewrite;

/// Which calls go to which backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Assigned by the platform when absent.
    #[serde(default)]
    pub id: RouteId,
    /// Unique in the service.
    #[schema(example = "payments")]
    pub name: String,
    /// Relative to the publish's base path.
    pub path: PathMatch,
    /// Any method when empty.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Conditions on headers; all must match.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    /// Conditions on query parameters; all must match.
    #[serde(default)]
    pub query: Vec<ValueMatch>,
    /// Routes of higher priority are tried first; among equal ones, the more specific path.
    #[serde(default)]
    pub priority: i32,
    /// The name or id of a backend of this service; alternative to `backends`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_id: Option<String>,
    /// Splits calls by weight; alternative to `backend_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<WeightedBackend>,
    /// How the request is rewritten; path and host stay when absent.
    #[serde(default)]
    pub rewrite: Option<Rewrite>,
    /// Milliseconds until 504; 15,000 when absent.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
    /// For calls without a bounded duration: WebSocket, server-sent events, gRPC streams, long
    /// polls. They end after `idle_timeout_ms` of silence, in place of `timeout_ms`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stream: bool,
    /// Milliseconds of silence that end a stream. 1,000 to 3,600,000; 300,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u32>,
    /// The protocols that HTTP/1.1 calls of a stream may upgrade to; `websocket` when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<String>,
}

/// How a path is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum PathMatch {
    /// The whole path, in any percent-encoding: `/café` equals `/caf%C3%A9`.
    Exact(String),
    /// Whole segments: `/pay` matches `/pay` and `/pay/x`, not `/payments`.
    Prefix(String),
    /// `/payments/{id}`: `{name}` is a segment or a part of one, `{name+}` the rest of the path.
    Template(String),
    /// RE2 syntax, matching the whole path below the base path, percent-encoded as callers send it.
    Regex(String),
    /// Stored by a newer release; not allowed in requests.
    #[serde(skip)]
    Newer(NewerChoice),
}
choice!(PathMatch);

fn invalid(fault: PathFault) -> Fault {
    Fault::new("invalid_path", fault.to_string())
}

impl PathMatch {
    /// The source of variables for a rewrite's target.
    fn rewrite_source(&self) -> Source<'_> {
        match self {
            Self::Template(template) => Source::Template(template),
            Self::Regex(regex) => Source::Regex(regex),
            Self::Exact(_) | Self::Prefix(_) | Self::Newer(_) => Source::Literal,
        }
    }

    /// Checks what a caller may write.
    pub fn check(&self) -> Result<(), Fault> {
        let (Self::Exact(text) | Self::Prefix(text) | Self::Template(text)) = self else {
            return self.pattern().map(drop);
        };
        let pattern = self.pattern()?;
        path::advice::check(text, &pattern).map_err(invalid)
    }

    /// The pattern of paths that it matches.
    pub fn pattern(&self) -> Result<Pattern, Fault> {
        match self {
            Self::Exact(path) => Pattern::exact(path).map_err(invalid),
            Self::Prefix(path) => Pattern::prefix(path).map_err(invalid),
            Self::Template(path) => Pattern::template(path).map_err(invalid),
            Self::Regex(regex) => {
                grammar::path_regex(regex)?;
                Ok(Pattern::Expression(regex.clone()))
            }
            Self::Newer(newer) => Err(unknown(newer)),
        }
    }

    /// Whether former releases of agents refuse it.
    fn is_extended(&self) -> bool {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Template(text) => {
                !path::first::has(text)
            }
            Self::Regex(_) | Self::Newer(_) => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Template(_) => "template",
            Self::Regex(_) => "regex",
            Self::Newer(newer) => newer.word(),
        }
    }
}

/// A backend and its share of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedBackend {
    /// The name or id of the backend.
    pub backend_id: String,
    /// Share among the route's weights.
    pub weight: u32,
}

impl Check for Route {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.within("path", |v| {
            v.take(self.path.kind(), self.path.check());
        });
        if v.at_most("methods", self.methods.len(), &caps::METHODS_PER_ROUTE) {
            v.each("methods", &self.methods, |v, method| {
                v.take("", grammar::method(method));
            });
        }
        self.check_matchers(v);
        self.check_backends(v);
        if let Some(rewrite) = &self.rewrite {
            v.within("rewrite", |v| rewrite.check(v, self.path.rewrite_source()));
        }
        if self.timeout_ms.is_some_and(|ms| !(1..=3_600_000).contains(&ms)) {
            v.add("timeout_ms", "out_of_range", "1 to 3,600,000");
        }
        self.check_stream(v);
    }
}

impl Route {
    /// The number of regular expressions that a gateway compiles for it.
    pub fn expressions(&self) -> usize {
        let values = self.headers.iter().chain(&self.query);
        let of_values = values.filter(|value| matches!(value.value, ValueRule::Regex(_))).count();
        of_values + usize::from(matches!(self.path, PathMatch::Regex(_)))
    }

    /// A word that this release does not know, with its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let mut values = self.headers.iter().chain(&self.query);
        let values = values.find_map(|it| match &it.value {
            ValueRule::Newer(newer) => Some(("value", newer.word())),
            _ => None,
        });
        match &self.path {
            PathMatch::Newer(newer) => Some(("path", newer.word())),
            _ => values,
        }
    }

    fn check_matchers(&self, v: &mut Violations) {
        let (headers, query) = (self.headers.len(), self.query.len());
        let longer = if headers >= query { "headers" } else { "query" };
        if !v.at_most(longer, headers + query, &caps::MATCHERS_PER_ROUTE) {
            return;
        }
        v.each("headers", &self.headers, condition::check_header);
        v.each("query", &self.query, condition::check_parameter);
    }

    fn check_stream(&self, v: &mut Violations) {
        if self.idle_timeout_ms.is_some_and(|ms| !(1_000..=3_600_000).contains(&ms)) {
            v.add("idle_timeout_ms", "out_of_range", "1,000 to 3,600,000");
        }
        if self.stream && self.timeout_ms.is_some() {
            v.add("timeout_ms", "conflict", "a stream has no total limit; see `idle_timeout_ms`");
        }
        let of_stream = [
            ("idle_timeout_ms", self.idle_timeout_ms.is_some()),
            ("upgrades", !self.upgrades.is_empty()),
        ];
        for (name, is_said) in of_stream {
            if is_said && !self.stream {
                v.add(name, "without_effect", "it needs `stream`");
            }
        }
        if v.at_most("upgrades", self.upgrades.len(), &caps::UPGRADES_PER_ROUTE) {
            v.each("upgrades", &self.upgrades, |v, protocol| {
                if !imp_grammar::headers::is_upgrade(protocol) {
                    let detail =
                        "a protocol such as websocket or spdy/3.1, in lower case; not HTTP or TLS";
                    v.add("", "invalid_upgrade", detail);
                }
            });
        }
    }

    /// The features that agents must support to serve it, besides those that all support.
    pub fn features(&self) -> impl Iterator<Item = &'static str> {
        let rewrites = self.rewrite.as_ref().is_some_and(Rewrite::is_computed);
        let needs = [
            (features::PATHS, self.path.is_extended()),
            (features::REWRITES, rewrites),
            (features::STREAMS, self.stream),
        ];
        needs.into_iter().filter(|(_, needed)| *needed).map(|(word, _)| word)
    }

    fn check_backends(&self, v: &mut Violations) {
        match (&self.backend_id, self.backends.is_empty()) {
            (None, true) => {
                v.add("backend_id", "required", "name a backend, or several in `backends`")
            }
            (Some(_), false) => v.add("backends", "conflict", "either `backend_id` or `backends`"),
            _ => {}
        }
        v.at_most("backends", self.backends.len(), &caps::BACKENDS_PER_ROUTE);
        let total: u64 = self.backends.iter().map(|b| u64::from(b.weight)).sum();
        if !self.backends.is_empty() && !(1..=u64::from(u32::MAX)).contains(&total) {
            v.add("backends", "out_of_range", "the weights add up to 1..4,294,967,295");
        }
    }

    /// Every backend it may send to, with its weight.
    pub fn weighted(&self) -> Vec<(&str, u32)> {
        match &self.backend_id {
            Some(one) => vec![(one, 1)],
            None => self.backends.iter().map(|b| (b.backend_id.as_str(), b.weight)).collect(),
        }
    }
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Assigned by the platform when absent.
    #[serde(default)]
    pub id: BackendId,
    /// Unique in the service.
    #[schema(example = "payment-svc")]
    pub name: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// HTTP/1.1 when absent.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// Round robin when absent.
    #[serde(default)]
    pub lb_policy: LbPolicy,
    /// Milliseconds until 503; 5,000 when absent.
    #[serde(default)]
    pub connect_timeout_ms: Option<u32>,
    /// Two when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// On when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// None when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Plain text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

impl Backend {
    /// A word that this release does not know, with its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let protocol = self.protocol.newer_word().map(|word| ("protocol", word));
        protocol.or_else(|| self.lb_policy.newer_word().map(|word| ("lb_policy", word)))
    }
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// An IP address or a DNS name that the cluster resolves.
    #[schema(example = "payment-svc.default.svc")]
    pub host: String,
    /// 1 to 65,535.
    #[schema(example = 8080)]
    pub port: u16,
    /// 1 when absent.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

words! {
    /// The protocol of the upstream.
    #[derive(Default)]
    pub enum BackendProtocol {
        /// HTTP/1.1.
        #[default]
        Http1 = "http1",
        /// HTTP/2 without TLS (prior knowledge).
        Http2 = "http2",
    }
}

words! {
    /// How an endpoint is chosen.
    #[derive(Default)]
    pub enum LbPolicy {
        /// Each endpoint in turn.
        #[default]
        RoundRobin = "round_robin",
        /// The less busy of two random endpoints.
        LeastRequest = "least_request",
        /// A random endpoint.
        Random = "random",
    }
}

impl Check for Backend {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        if self.endpoints.is_empty() {
            v.add("endpoints", "required", "at least one endpoint");
        }
        if v.at_most("endpoints", self.endpoints.len(), &caps::ENDPOINTS_PER_BACKEND) {
            self.check_duplicates(v);
        }
        v.each("endpoints", &self.endpoints, |v, endpoint| {
            if endpoint.port == 0 {
                v.add("port", "out_of_range", "1 to 65535");
            }
            if !(1..=128).contains(&endpoint.weight) {
                v.add("weight", "out_of_range", "1 to 128");
            }
        });
        if self.connect_timeout_ms.is_some_and(|ms| !(1..=60_000).contains(&ms)) {
            v.add("connect_timeout_ms", "out_of_range", "1 to 60,000");
        }
        self.check_settings(v);
    }
}

impl Backend {
    /// Each would be connected to and checked once more. What is no host is refused elsewhere.
    fn check_duplicates(&self, v: &mut Violations) {
        let mut seen = HashSet::new();
        v.each("endpoints", &self.endpoints, |v, endpoint| {
            let Ok(host) = imp_grammar::hosts::endpoint(&endpoint.host) else { return };
            if !seen.insert((host, endpoint.port)) {
                v.add("", "duplicate", "this endpoint is in the list already; give it more weight");
            }
        });
    }

    fn check_settings(&self, v: &mut Violations) {
        let hosts = || self.endpoints.iter().map(|endpoint| endpoint.host.as_str());
        if let Some(retries) = &self.retries {
            v.within("retries", |v| retries.check(v));
        }
        if let Some(detection) = &self.outlier_detection {
            v.within("outlier_detection", |v| detection.check(v));
        }
        if let Some(check) = &self.health_check {
            HealthCheck::check_endpoints(v, hosts());
            v.within("health_check", |v| check.check(v));
        }
        if let Some(tls) = &self.tls {
            v.within("tls", |v| tls.check(v, hosts()));
        }
    }

    /// The features that agents must support to serve it, besides those that all support.
    pub fn features(&self) -> impl Iterator<Item = &'static str> {
        let needs = [
            (features::RETRIES, self.retries.is_some()),
            (features::OUTLIER_DETECTION, self.outlier_detection.is_some()),
            (features::HEALTH_CHECK, self.health_check.is_some()),
            (features::UPSTREAM_TLS, self.tls.is_some()),
        ];
        needs.into_iter().filter(|(_, needed)| *needed).map(|(word, _)| word)
    }
}
