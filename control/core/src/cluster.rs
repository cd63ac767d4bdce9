//! Clusters, the agents in them, and the tokens that let an agent in.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::port::{PortRange, usual_ranges};
use crate::{AgentId, Check, ClusterId, Meta, RegistrationTokenId, Violations, grammar};

/// What a caller writes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Unique, a DNS label.
    #[schema(example = "kr-seoul")]
    pub name: String,
    /// Where it is.
    #[serde(default)]
    #[schema(example = "ap-northeast-2")]
    pub region: String,
    /// Whose it is.
    #[serde(default)]
    #[schema(example = "aws")]
    pub cloud_provider: String,
    /// To find it by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The ports that gateways may listen on here; 80, 443 and 1024 to 65535 when absent.
    #[serde(default = "usual_ranges")]
    pub port_ranges: Vec<PortRange>,
}

impl Check for ClusterSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::slug(&self.name));
        v.take("region", grammar::text(&self.region, 100));
        v.take("cloud_provider", grammar::text(&self.cloud_provider, 100));
        v.at_most("labels", self.labels.len(), &caps::LABELS_PER_CLUSTER);
        v.at_most("port_ranges", self.port_ranges.len(), &caps::PORT_RANGES_PER_CLUSTER);
        v.each("port_ranges", &self.port_ranges, |v, range| range.check(v));
        v.within("labels", |v| {
            for (key, value) in &self.labels {
                v.take(key, grammar::name(key));
                v.take(key, grammar::text(value, 200));
            }
        });
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// What was written.
    #[serde(flatten)]
    pub spec: ClusterSpec,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

/// What a caller writes of a registration token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrationTokenSpec {
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

impl Check for RegistrationTokenSpec {
    fn check(&self, v: &mut Violations) {
        v.take("description", grammar::text(&self.description, 200));
    }
}

/// Lets one agent register with one cluster, once, within 15 minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistrationToken {
    /// Its id.
    pub id: RegistrationTokenId,
    /// The one cluster.
    pub cluster_id: ClusterId,
    /// What was written.
    #[serde(flatten)]
    pub spec: RegistrationTokenSpec,
    /// To recognise it by.
    #[schema(example = "imp_reg_3kTz")]
    pub prefix: String,
    /// After this it is refused.
    pub expires_at: DateTime<Utc>,
    /// Set by the registration that used it.
    pub used_at: Option<DateTime<Utc>>,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

impl RegistrationToken {
    /// How long one lives.
    pub const LIFETIME: TimeDelta = TimeDelta::minutes(15);
}

/// An agent, as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// As of the last heartbeat and the clock.
    pub status: AgentStatus,
    /// Its build.
    pub agent_version: String,
    /// The machine that registered.
    pub hostname: String,
    /// The last heartbeat.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// The Envoys connected to it, as of the last heartbeat.
    pub nodes: Vec<AgentNode>,
    /// What its build can serve, as of the last heartbeat; absent when its release doesn't say.
    pub capabilities: Option<Capabilities>,
    /// When two processes last used this identity at the same time: a copied state directory, or a
    /// thief.
    pub duplicate_seen_at: Option<DateTime<Utc>>,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

/// What an agent's build can serve, in the words of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Types of policies.
    pub policy_types: Vec<String>,
    /// Ways in which callers prove who they are.
    pub auth_modes: Vec<String>,
    /// Classes of gateways.
    pub gateway_classes: Vec<String>,
    /// What else of routes and backends.
    pub features: Vec<String>,
    /// Settings of gateways.
    pub gateway_settings: Vec<String>,
}

impl Capabilities {
    /// Of the last release whose agents don't say. This list is not extended.
    pub fn unsaid() -> Self {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        let types = ["rate_limit", "request_headers", "response_headers", "ip_access", "cors"];
        Self {
            policy_types: words(&types),
            auth_modes: words(&["none", "api_key"]),
            gateway_classes: words(&["envoy-gateway"]),
            features: Vec::new(),
            gateway_settings: Vec::new(),
        }
    }
}

/// An Envoy connected to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentNode {
    /// Envoy's `node.id`.
    pub id: String,
    /// The gateway it serves; all of the cluster's when absent.
    pub gateway_id: Option<String>,
    /// Envoy's version.
    pub envoy_version: String,
    /// Since when.
    pub connected_at: DateTime<Utc>,
}

/// registered -> connected <-> stale -> disconnected; revoked is terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Never connected so far.
    Registered,
    /// Heard of within [`AgentStatus::STALE_AFTER`].
    Connected,
    /// Silent for longer than that.
    Stale,
    /// Silent for longer than [`AgentStatus::DISCONNECTED_AFTER`].
    Disconnected,
    /// Never again.
    Revoked,
}

impl AgentStatus {
    /// Three heartbeats.
    pub const STALE_AFTER: TimeDelta = TimeDelta::seconds(30);
    /// Five minutes.
    pub const DISCONNECTED_AFTER: TimeDelta = TimeDelta::minutes(5);

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Connected => "connected",
            Self::Stale => "stale",
            Self::Disconnected => "disconnected",
            Self::Revoked => "revoked",
        }
    }

    /// The state that the last sign of life implies now.
    pub fn at(now: DateTime<Utc>, last_seen: Option<DateTime<Utc>>, revoked: bool) -> Self {
        if revoked {
            return Self::Revoked;
        }
        match last_seen.map(|seen| now - seen) {
            None => Self::Registered,
            Some(silence) if silence > Self::DISCONNECTED_AFTER => Self::Disconnected,
            Some(silence) if silence > Self::STALE_AFTER => Self::Stale,
            Some(_) => Self::Connected,
        }
    }
}
