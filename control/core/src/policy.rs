//! Policies: what a gateway does to calls besides routing them. One module per type; [`TYPES`] is the
//! table of all.

mod cors;
mod document;
mod effective;
mod headers;
mod ip_access;
mod rate_limit;
mod schema;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::{Check, PolicyId, Violations, grammar};

pub use cors::Cors;
pub use effective::Effective;
pub use headers::{Header, Headers};
pub use ip_access::IpAccess;
pub use rate_limit::{Per, RateLimit};

/// A policy of an API service or of one of its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Given by the platform when absent.
    pub id: PolicyId,
    /// Unique in the service.
    pub name: String,
    /// `type` and `config`.
    pub config: PolicyConfig,
    /// The name of the route it applies to; the whole service when absent. A route's policy takes
    /// the place of the service's policy of the same type.
    pub route: Option<String>,
}

/// The types of policy, each with its settings in `config`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "snake_case")]
pub enum PolicyConfig {
    /// At most so many requests per window, over all callers.
    RateLimit(RateLimit),
    /// Changes what the upstream sees.
    RequestHeaders(Headers),
    /// Changes what the caller sees.
    ResponseHeaders(Headers),
    /// From which addresses calls may come.
    IpAccess(IpAccess),
    /// Which web pages may call from a browser.
    Cors(Cors),
    /// Of a newer release, in what is stored; no request may hold one.
    #[serde(skip)]
    Unknown(UnknownPolicy),
}

/// A policy that this release cannot judge. It is shown and stored as it is, and nothing that holds it
/// is sent to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    kind: String,
    config: Value,
}

/// A type of policy.
#[derive(Debug)]
pub struct PolicyType {
    /// As in the `type` of a policy.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Where its decision is made.
    pub enforced_by: Enforcer,
    /// Its `config`.
    pub schema: fn() -> RefOr<Schema>,
    /// The schemas that `schema` names.
    pub parts: fn(&mut Vec<(String, RefOr<Schema>)>),
    /// What `schema` is called.
    settings: fn() -> Cow<'static, str>,
}

/// Where a policy's decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcer {
    /// In Envoy, whether the agent runs or not.
    Envoy,
    /// By the agent, which Envoy asks.
    Agent,
}

/// Every type of policy there is. All may stand on a service and on a route.
pub const TYPES: &[PolicyType] = &[
    PolicyType::of::<RateLimit>(
        "rate_limit",
        "At most so many calls per window, over all callers; 429 beyond.",
        Enforcer::Agent,
    ),
    PolicyType::of::<Headers>(
        "request_headers",
        "Sets, adds and removes headers that the upstream sees.",
        Enforcer::Envoy,
    ),
    PolicyType::of::<Headers>(
        "response_headers",
        "Sets, adds and removes headers that the caller sees.",
        Enforcer::Envoy,
    ),
    PolicyType::of::<IpAccess>(
        "ip_access",
        "Lets calls in by the address that they come from; 403 for others, before credentials.",
        Enforcer::Envoy,
    ),
    PolicyType::of::<Cors>(
        "cors",
        "Lets web pages of other origins call from a browser; answers their preflights.",
        Enforcer::Envoy,
    ),
];

impl PolicyType {
    /// The type whose `config` is an `S`.
    const fn of<S: ToSchema>(name: &'static str, summary: &'static str, by: Enforcer) -> Self {
        let (schema, parts, settings) = (S::schema, S::schemas, S::name);
        Self { name, summary, enforced_by: by, schema, parts, settings }
    }
}

impl PolicyConfig {
    /// The type as it stands in JSON.
    pub fn kind(&self) -> &str {
        match self {
            Self::Unknown(unknown) => &unknown.kind,
            Self::RateLimit(_) => "rate_limit",
            Self::RequestHeaders(_) => "request_headers",
            Self::ResponseHeaders(_) => "response_headers",
            Self::IpAccess(_) => "ip_access",
            Self::Cors(_) => "cors",
        }
    }

    /// A word in its settings that this release does not know, and its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::RateLimit(limit) => limit.per.newer_word().map(|word| ("per", word)),
            Self::RequestHeaders(_)
            | Self::ResponseHeaders(_)
            | Self::IpAccess(_)
            | Self::Cors(_)
            | Self::Unknown(_) => None,
        }
    }

    /// How many headers, networks and origins it names: how much work it is.
    pub fn parts(&self) -> usize {
        match self {
            Self::RateLimit(_) | Self::Unknown(_) => 0,
            Self::RequestHeaders(headers) | Self::ResponseHeaders(headers) => headers.len(),
            Self::IpAccess(access) => access.allow.len() + access.deny.len(),
            Self::Cors(cors) => cors.len(),
        }
    }

    fn is_vain(&self) -> bool {
        match self {
            Self::RequestHeaders(headers) | Self::ResponseHeaders(headers) => headers.is_empty(),
            Self::RateLimit(_) | Self::IpAccess(_) | Self::Cors(_) | Self::Unknown(_) => false,
        }
    }

    fn checks(&self) -> &dyn Check {
        match self {
            Self::RateLimit(limit) => limit,
            Self::RequestHeaders(headers) | Self::ResponseHeaders(headers) => headers,
            Self::IpAccess(access) => access,
            Self::Cors(cors) => cors,
            Self::Unknown(unknown) => unknown,
        }
    }

    fn unknown(kind: String, config: Value) -> Self {
        Self::Unknown(UnknownPolicy { kind, config })
    }
}

impl Check for UnknownPolicy {
    fn check(&self, v: &mut Violations) {
        let detail = format!("this release does not know policies of type '{}'", self.kind);
        v.add("", "unknown_policy_type", detail);
    }
}

impl Check for Policy {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.within("config", |v| {
            self.config.checks().check(v);
            if let PolicyConfig::ResponseHeaders(headers) = &self.config {
                headers.check_answers(v);
            }
            // Of a route, an empty one takes the place of the service's.
            if self.route.is_none() && self.config.is_vain() {
                v.add("set", "required", "without a header to set, add or remove it does nothing");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_refuses_unknown_fields_at_every_depth() {
        let good = r#"{"name":"l","type":"rate_limit","config":{"requests":5,"per":"minute"}}"#;
        assert!(serde_json::from_str::<Policy>(good).is_ok());
        for bad in [
            r#"{"name":"l","type":"rate_limit","config":{"requests":5,"per":"minute"},"burst":1}"#,
            r#"{"name":"l","type":"rate_limit","config":{"requests":5,"per":"minute","burst":1}}"#,
            r#"{"name":"l","type":"teleport","config":{}}"#,
            r#"{"name":"l","type":"rate_limit"}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }

    /// The words of the enum are those that its deserialiser names when it meets another.
    #[test]
    fn the_table_holds_every_type() {
        let unknown = r#"{"type":"teleport","config":{}}"#;
        let told = serde_json::from_str::<PolicyConfig>(unknown).unwrap_err().to_string();
        let named: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
        let table: Vec<&str> = TYPES.iter().map(|it| it.name).collect();
        assert_eq!(named, table);
    }
}
