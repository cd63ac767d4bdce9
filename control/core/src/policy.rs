//! Policies: what a gateway does to calls besides routing them.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, PolicyId, Violations, grammar};

/// A policy of an API service or of one of its routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Given by the platform when absent.
    #[serde(default)]
    pub id: PolicyId,
    /// Unique in the service.
    #[schema(example = "limit")]
    pub name: String,
    /// Type and settings.
    #[serde(flatten)]
    pub config: PolicyConfig,
    /// The name of the route it applies to; the whole service when absent. A route's policy takes
    /// the place of the service's policy of the same type.
    #[serde(default)]
    pub route: Option<String>,
}

/// The types of policy, each with its settings in `config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "config", rename_all = "snake_case")]
pub enum PolicyConfig {
    /// At most so many requests per window, over all callers.
    RateLimit(RateLimit),
    /// Changes what the upstream sees.
    RequestHeaders(Headers),
    /// Changes what the caller sees.
    ResponseHeaders(Headers),
}

impl PolicyConfig {
    /// How many headers it names.
    pub fn headers(&self) -> usize {
        match self {
            Self::RateLimit(_) => 0,
            Self::RequestHeaders(it) | Self::ResponseHeaders(it) => {
                it.set.len() + it.add.len() + it.remove.len()
            }
        }
    }

    /// The type as it stands in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RateLimit(_) => "rate_limit",
            Self::RequestHeaders(_) => "request_headers",
            Self::ResponseHeaders(_) => "response_headers",
        }
    }
}

/// `{"requests": 1000, "per": "minute"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// At least 1.
    #[schema(example = 1000)]
    pub requests: u64,
    /// The window.
    pub per: Per,
}

/// The windows of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
}

impl Per {
    /// Its length.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Check for RateLimit {
    fn check(&self, v: &mut Violations) {
        if !(1..=1_000_000_000).contains(&self.requests) {
            v.add("requests", "out_of_range", "1 to 1,000,000,000");
        }
    }
}

/// Headers to set (replacing), to add (beside), to remove; in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Replaces what is there.
    #[serde(default)]
    pub set: Vec<Header>,
    /// Stands beside what is there.
    #[serde(default)]
    pub add: Vec<Header>,
    /// Names.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Not one of the gateway's own.
    #[schema(example = "x-team")]
    pub name: String,
    /// Literal; a percent sign is written `%%`.
    #[schema(example = "payments")]
    pub value: String,
}

impl Check for Headers {
    fn check(&self, v: &mut Violations) {
        let lists =
            [("set", self.set.len()), ("add", self.add.len()), ("remove", self.remove.len())];
        let together = lists.iter().map(|(_, length)| length).sum();
        let longest =
            lists.iter().max_by_key(|(_, length)| *length).map_or("set", |(name, _)| *name);
        if !v.at_most(longest, together, &caps::HEADERS_PER_POLICY) {
            return;
        }
        let header = |v: &mut Violations, header: &Header| {
            v.take("name", grammar::writable_header(&header.name));
            v.take("value", grammar::header_value(&header.value));
        };
        v.each("set", &self.set, header);
        v.each("add", &self.add, header);
        v.each("remove", &self.remove, |v, name| {
            v.take("", grammar::writable_header(name));
        });
    }
}

impl Check for Policy {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.within("config", |v| match &self.config {
            PolicyConfig::RateLimit(limit) => limit.check(v),
            PolicyConfig::RequestHeaders(headers) | PolicyConfig::ResponseHeaders(headers) => {
                headers.check(v)
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
}
