//! Routes and backends: the inside of an API service.

use imp_grammar::caps;
use imp_grammar::path::{self, PathFault, Pattern};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::Fault;
use crate::{BackendId, Check, RouteId, Violations, grammar};

/// Which calls go where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Given by the platform when absent.
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
    /// All must match.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    /// All must match.
    #[serde(default)]
    pub query: Vec<ValueMatch>,
    /// Higher is tried first; equal ones go by how specific the path is.
    #[serde(default)]
    pub priority: i32,
    /// The name or id of a backend of this service; or use `backends`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_id: Option<String>,
    /// Splits calls by weight; or use `backend_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<WeightedBackend>,
    /// Keep path and host when absent.
    #[serde(default)]
    pub rewrite: Option<Rewrite>,
    /// Milliseconds until 504; 15,000 when absent.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
}

/// One way to match a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path, in any spelling: `/café` is `/caf%C3%A9`.
    Exact(String),
    /// Whole segments: `/pay` matches `/pay` and `/pay/x`, not `/payments`.
    Prefix(String),
    /// `/payments/{id}`: `{name}` is a segment or a part of one, `{name+}` the rest of the path.
    Template(String),
    /// RE2 syntax, over the whole path below the base path, as callers encode it.
    Regex(String),
}

fn invalid(fault: PathFault) -> Fault {
    Fault::new("invalid_path", fault.to_string())
}

impl PathMatch {
    /// Whether a caller may write it.
    pub fn check(&self) -> Result<(), Fault> {
        let (Self::Exact(text) | Self::Prefix(text) | Self::Template(text)) = self else {
            return self.pattern().map(drop);
        };
        let pattern = self.pattern()?;
        path::advice::check(text, &pattern).map_err(invalid)
    }

    /// What it takes.
    pub fn pattern(&self) -> Result<Pattern, Fault> {
        match self {
            Self::Exact(path) => Pattern::exact(path).map_err(invalid),
            Self::Prefix(path) => Pattern::prefix(path).map_err(invalid),
            Self::Template(path) => Pattern::template(path).map_err(invalid),
            Self::Regex(regex) => {
                grammar::path_regex(regex)?;
                Ok(Pattern::Expression(regex.clone()))
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Template(_) => "template",
            Self::Regex(_) => "regex",
        }
    }
}

/// Matches one header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// Of the header or parameter.
    pub name: String,
    /// How its value must be.
    pub value: ValueRule,
}

/// One way to match a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueRule {
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// RE2 syntax, over the whole value.
    Regex(String),
    /// True: must be there. False: must not.
    Present(bool),
}

impl ValueRule {
    fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Prefix(value) if value.is_empty() => {
                Err(Fault::new("required", "a prefix is not empty; `present` matches any value"))
            }
            Self::Exact(value) | Self::Prefix(value) => grammar::match_value(value),
            Self::Regex(regex) => grammar::regex(regex),
            Self::Present(_) => Ok(()),
        }
    }
}

/// A backend and its share of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedBackend {
    /// Name or id.
    pub backend_id: String,
    /// Share among the route's weights.
    pub weight: u32,
}

/// What the upstream sees instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// In place of base path and matched prefix, or of the whole path.
    #[serde(default)]
    pub path: Option<String>,
    /// In place of the `Host` header.
    #[serde(default)]
    pub host: Option<String>,
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
            v.within("rewrite", |v| {
                rewrite.path.as_deref().map(|path| v.take("path", grammar::path(path)));
                rewrite.host.as_deref().map(|host| v.take("host", grammar::hostname(host)));
            });
        }
        if self.timeout_ms.is_some_and(|ms| !(1..=3_600_000).contains(&ms)) {
            v.add("timeout_ms", "out_of_range", "1 to 3,600,000");
        }
    }
}

impl Route {
    /// How many regular expressions a gateway compiles for it.
    pub fn expressions(&self) -> usize {
        let values = self.headers.iter().chain(&self.query);
        let of_values = values.filter(|value| matches!(value.value, ValueRule::Regex(_))).count();
        of_values + usize::from(matches!(self.path, PathMatch::Regex(_)))
    }

    fn check_matchers(&self, v: &mut Violations) {
        let (headers, query) = (self.headers.len(), self.query.len());
        let longer = if headers >= query { "headers" } else { "query" };
        if !v.at_most(longer, headers + query, &caps::MATCHERS_PER_ROUTE) {
            return;
        }
        v.each("headers", &self.headers, |v, header| {
            v.take("name", grammar::header_name(&header.name));
            v.take("value", header.value.check());
        });
        v.each("query", &self.query, |v, parameter| {
            v.take("name", grammar::name(&parameter.name));
            v.take("value", parameter.value.check());
        });
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
    /// Given by the platform when absent.
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

/// What the upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS (prior knowledge).
    Http2,
}

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LbPolicy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The least busy of two.
    LeastRequest,
    /// Any.
    Random,
}

impl Check for Backend {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        if self.endpoints.is_empty() {
            v.add("endpoints", "required", "at least one endpoint");
        }
        v.at_most("endpoints", self.endpoints.len(), &caps::ENDPOINTS_PER_BACKEND);
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
    }
}
