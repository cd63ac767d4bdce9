//! Clusters, their agents, and the tokens that agents register with.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::port::{PortRange, usual_ranges};
use crate::{AgentId, Check, ClusterId, Meta, RegistrationTokenId, Violations, grammar};

/// The writable fields of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Unique; a DNS label.
    #[schema(example = "kr-seoul")]
    pub name: String,
    /// The region that it is in.
    #[serde(default)]
    #[schema(example = "ap-northeast-2")]
    pub region: String,
    /// The provider that runs it.
    #[serde(default)]
    #[schema(example = "aws")]
    pub cloud_provider: String,
    /// Labels to search by.
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
    /// The cluster's unique id.
    pub id: ClusterId,
    #[serde(flatten)]
    pub spec: ClusterSpec,
    #[serde(flatten)]
    pub meta: Meta,
}

/// The writable fields of a registration token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrationTokenSpec {
    /// A description that says what it is for.
    #[serde(default)]
    pub description: String,
}

impl Check for RegistrationTokenSpec {
    fn check(&self, v: &mut Violations) {
        v.take("description", grammar::text(&self.description, 200));
    }
}

/// Admits one agent to one cluster, once, within 15 minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistrationToken {
    /// The token's unique id.
    pub id: RegistrationTokenId,
    /// The cluster that it admits to.
    pub cluster_id: ClusterId,
    #[serde(flatten)]
    pub spec: RegistrationTokenSpec,
    /// The start of the secret, to recognise the token.
    #[schema(example = "imp_reg_3kTz")]
    pub prefix: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When an agent registered with it.
    pub used_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub meta: Meta,
}

impl RegistrationToken {
    /// How long a token is valid.
    pub const LIFETIME: TimeDelta = TimeDelta::minutes(15);
}

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// The agent's unique id.
    pub id: AgentId,
    /// The cluster that it serves.
    pub cluster_id: ClusterId,
    /// The status as of the last heartbeat and the current time.
    pub status: AgentStatus,
    /// The version of the agent's program.
    pub agent_version: String,
    /// The host that registered.
    pub hostname: String,
    /// The time of the last heartbeat.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// The Envoys connected to it, as of the last heartbeat.
    pub nodes: Vec<AgentNode>,
    /// What its release supports, as of the last heartbeat; absent when the release does not report
    /// it.
    pub capabilities: Option<Capabilities>,
    /// When two processes last used this identity at the same time: a copied or stolen state
    /// directory.
    pub duplicate_seen_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub meta: Meta,
}

/// What an agent's release supports, in the words of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Supported policy types.
    pub policy_types: Vec<String>,
    /// Supported ways of authenticating callers.
    pub auth_modes: Vec<String>,
    /// Supported classes of gateways.
    pub gateway_classes: Vec<String>,
    /// Other supported features of routes and backends.
    pub features: Vec<String>,
    /// Supported settings of gateways.
    pub gateway_settings: Vec<String>,
}

impl Capabilities {
    /// The capabilities of the last release whose agents do not report them. Must not be extended.
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
    /// The gateway that it serves; all of the cluster's when absent.
    pub gateway_id: Option<String>,
    /// Envoy's version.
    pub envoy_version: String,
    /// Since when it is connected.
    pub connected_at: DateTime<Utc>,
}

/// registered -> connected <-> stale -> disconnected; revoked is terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Has never connected.
    Registered,
    /// The last heartbeat is more recent than [`AgentStatus::STALE_AFTER`].
    Connected,
    /// The last heartbeat is older than that.
    Stale,
    /// The last heartbeat is older than [`AgentStatus::DISCONNECTED_AFTER`].
    Disconnected,
    /// Shut out permanently.
    Revoked,
}

impl AgentStatus {
    /// Three heartbeats.
    pub const STALE_AFTER: TimeDelta = TimeDelta::seconds(30);
    /// Five minutes.
    pub const DISCONNECTED_AFTER: TimeDelta = TimeDelta::minutes(5);

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Connected => "connected",
            Self::Stale => "stale",
            Self::Disconnected => "disconnected",
            Self::Revoked => "revoked",
        }
    }

    /// The status that the time of the last heartbeat implies now.
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
