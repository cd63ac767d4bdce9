//! Policies: what a gateway does to calls besides routing. One module per type; [`TYPES`] lists
//! them all.

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
    /// Assigned by the platform when absent.
    pub id: PolicyId,
    /// Unique in the service.
    pub name: String,
    pub config: PolicyConfig,
    /// The name of the route it applies to; the whole service when absent. A route's policy
    /// replaces the service's policy of the same type.
    pub route: Option<String>,
}

/// The types of policy, each with its settings in `config`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "snake_case")]
pub enum PolicyConfig {
    /// Limits requests per window, over all callers.
    RateLimit(RateLimit),
    /// Changes the request's headers before the upstream gets them.
    RequestHeaders(Headers),
    /// Changes the answer's headers before the caller gets them.
    ResponseHeaders(Headers),
    /// Restricts the addresses that calls may come from.
    IpAccess(IpAccess),
    /// Allows web pages of other origins to call from a browser.
    Cors(Cors),
    /// Stored by a newer release; not allowed in requests.
    #[serde(skip)]
    Unknown(UnknownPolicy),
}

/// A policy that this release does not know. It is shown and stored unchanged; whatever contains it
/// is not sent to gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    kind: String,
    config: Value,
}

/// A type of policy.
#[derive(Debug)]
pub struct PolicyType {
    /// The value of a policy's `type`.
    pub name: &'static str,
    /// A short description of its effect.
    pub summary: &'static str,
    /// The component that enforces it.
    pub enforced_by: Enforcer,
    /// The schema of `config`.
    pub schema: fn() -> RefOr<Schema>,
    /// The schemas that `schema` refers to.
    pub parts: fn(&mut Vec<(String, RefOr<Schema>)>),
    /// The name of `schema` in the document.
    settings: fn() -> Cow<'static, str>,
}

/// The component that enforces a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcer {
    /// Envoy itself, whether or not the agent runs.
    Envoy,
    /// The agent, which Envoy asks.
    Agent,
}

/// All policy types. Each may be attached to a service or a route.
pub const TYPES: &[PolicyType] = &[
    PolicyType::of::<RateLimit>(
        "rate_limit",
        "Limits the calls per window, over all callers; answers 429 beyond.",
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
    /// The type's word in JSON.
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

    /// A word in its settings that this release does not know, with its field.
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

    /// How many headers, networks and origins it names: a measure of the work it causes.
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
            // On a route, an empty policy is useful: it replaces the service's.
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

    /// Compares with the variants that the enum's deserialiser lists when it meets an unknown one.
    #[test]
    fn the_table_holds_every_type() {
        let unknown = r#"{"type":"teleport","config":{}}"#;
        let told = serde_json::from_str::<PolicyConfig>(unknown).unwrap_err().to_string();
        let named: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
        let table: Vec<&str> = TYPES.iter().map(|it| it.name).collect();
        assert_eq!(named, table);
    }
}
