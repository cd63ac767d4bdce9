//! A ProductPublish: what is served where. Each change makes an immutable revision that holds the
//! rendered inputs; a rollback publishes an earlier one again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api_service::ApiServiceSpec;
use crate::stored::states;
use crate::{
    ApiServiceId, Check, ClusterId, GatewayId, Meta, ProductId, ProductPublishId, TenantId,
    Transition, Violations, grammar,
};

/// What a caller writes of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductPublishSpec {
    /// Which product.
    pub product_id: ProductId,
    /// Which of its services; all of them when empty.
    #[serde(default)]
    pub api_services: Vec<ApiServiceId>,
    /// On which template.
    pub gateway_id: GatewayId,
    /// In which cluster.
    pub cluster_id: ClusterId,
    /// For which environment.
    pub environment: Environment,
    /// How callers prove who they are.
    pub auth_mode: AuthMode,
    /// Under which names callers reach it; exact, at least one.
    #[schema(example = json!(["api.example.com"]))]
    pub hostnames: Vec<String>,
    /// Under which path; `/` when absent.
    #[serde(default = "root")]
    #[schema(example = "/v1")]
    pub base_path: String,
    /// How the configuration reaches the gateway.
    #[serde(default)]
    pub delivery: Delivery,
}

fn root() -> String {
    "/".to_owned()
}

states! {
    /// Stages of a product's life.
    pub enum Environment {
        /// Development.
        Dev,
        /// Staging.
        Staging,
        /// Production.
        Prod,
    }
}

impl Environment {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
            Self::Newer(word) => word.as_str(),
        }
    }
}

states! {
    /// How callers prove who they are.
    pub enum AuthMode {
        /// Public.
        None,
        /// A key in `X-API-Key`.
        ApiKey,
        /// Not supported yet.
        Oauth2,
        /// Not supported yet.
        Jwt,
        /// Not supported yet.
        Mtls,
    }
}

impl AuthMode {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ApiKey => "api_key",
            Self::Oauth2 => "oauth2",
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
            Self::Newer(word) => word.as_str(),
        }
    }
}

states! {
    /// How the configuration reaches the gateway.
    #[derive(Default)]
    pub enum Delivery {
        /// By xDS where an Envoy is connected.
        #[default]
        Auto,
        /// By xDS only.
        Xds,
        /// Not supported yet.
        Crd,
    }
}

impl Delivery {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xds => "xds",
            Self::Crd => "crd",
            Self::Newer(word) => word.as_str(),
        }
    }
}

impl Check for ProductPublishSpec {
    fn check(&self, v: &mut Violations) {
        if !matches!(self.auth_mode, AuthMode::None | AuthMode::ApiKey) {
            v.add("auth_mode", "unsupported_auth_mode", "only none and api_key are supported yet");
        }
        if self.delivery == Delivery::Crd {
            v.add("delivery", "unsupported_delivery", "Gateway API delivery is not supported yet");
        }
        v.at_most("api_services", self.api_services.len(), &caps::SERVICES_PER_PUBLISH);
        if self.hostnames.is_empty() {
            v.add("hostnames", "required", "at least one hostname");
        }
        v.at_most("hostnames", self.hostnames.len(), &caps::HOSTNAMES_PER_PUBLISH);
        let mut seen = HashSet::new();
        v.each("hostnames", &self.hostnames, |v, hostname| {
            let canonical = v.take("", grammar::hostname(hostname));
            if canonical.is_some_and(|name| !seen.insert(name)) {
                v.add("", "duplicate_hostname", "this hostname is in the list already");
            }
        });
        v.take("base_path", grammar::base_path(&self.base_path));
    }

    fn canonicalise(&mut self) {
        for hostname in &mut self.hostnames {
            if let Ok(canonical) = grammar::hostname(hostname) {
                *hostname = canonical;
            }
        }
    }
}

/// A publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductPublish {
    /// Its id.
    pub id: ProductPublishId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Where it stands.
    pub status: PublishStatus,
    /// The revision that should serve.
    pub desired_revision: i64,
    /// The newest revision that every connected Envoy has acknowledged; 0: none.
    pub acked_revision: i64,
    /// What the Envoys of the gateway said of the desired revision.
    pub nodes: NodeCounts,
    /// Why it failed, or what stands in its way.
    pub last_error: Option<PublishError>,
    /// When the desired revision became active.
    pub activated_at: Option<DateTime<Utc>>,
    /// What was written.
    #[serde(flatten)]
    pub spec: ProductPublishSpec,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

/// Envoys by what they said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// Serving it.
    pub acked: u32,
    /// Refused it.
    pub nacked: u32,
    /// Not answered yet.
    pub behind: u32,
}

/// Why a publish failed, or a gateway is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishError {
    /// A stable word: `envoy_nack`, `agent_rejected`, `gateway_refused`, `no_answer`.
    pub code: String,
    /// The refused Envoy resource, when there is one.
    pub resource: String,
    /// Envoy's own words.
    pub envoy_message: String,
    /// What to do about it.
    pub hint: String,
}

/// One immutable revision of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishRevision {
    /// Of which publish.
    pub product_publish_id: ProductPublishId,
    /// 1, 2, 3 ...
    pub revision: i64,
    /// SHA-256 of the content, hexadecimal.
    pub content_hash: String,
    /// The publish as it was asked for.
    pub spec: ProductPublishSpec,
    /// The services as they were.
    pub api_services: Vec<FrozenApiService>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// An API service's content at the time of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FrozenApiService {
    /// Of which service.
    pub id: ApiServiceId,
    /// The service's revision.
    pub revision: i64,
    /// Its content.
    pub spec: ApiServiceSpec,
}

states! {
    /// pending -> deploying -> active | failed; active <-> suspended; -> undeploying -> undeployed.
    /// `unknown` is what a reader sees while the agent is silent; it is never stored.
    pub enum PublishStatus {
        /// No agent has it yet.
        Pending,
        /// On its way to the Envoys.
        Deploying,
        /// Every connected Envoy acknowledged it.
        Active,
        /// Refused; the former revision keeps serving.
        Failed,
        /// Answers 503 by order.
        Suspended,
        /// Being taken away.
        Undeploying,
        /// Gone from every Envoy.
        Undeployed,
        /// The agent is silent.
        Unknown,
    }
}

impl PublishStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Pending => "pending",
            Self::Deploying => "deploying",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::Undeploying => "undeploying",
            Self::Undeployed => "undeployed",
            Self::Unknown => "unknown",
        }
    }

    /// A new revision is wanted.
    pub fn redeploy(self) -> Result<Self, Transition> {
        match self {
            Self::Undeploying | Self::Newer(_) => Err(self.refuse("deploying")),
            Self::Suspended => Ok(Self::Suspended),
            _ => Ok(Self::Pending),
        }
    }

    /// The agent reported on the desired revision.
    pub fn report(self, progress: Progress) -> Self {
        match (self, progress) {
            (Self::Suspended | Self::Undeploying | Self::Undeployed | Self::Newer(_), _) => self,
            (_, Progress::Deploying) => Self::Deploying,
            (_, Progress::Acked) => Self::Active,
            (_, Progress::Refused) => Self::Failed,
        }
    }

    /// Answer 503 from now on.
    pub fn suspend(self) -> Result<Self, Transition> {
        match self {
            Self::Pending | Self::Deploying | Self::Active | Self::Failed => Ok(Self::Suspended),
            _ => Err(self.refuse("suspended")),
        }
    }

    /// Serve again.
    pub fn resume(self) -> Result<Self, Transition> {
        match self {
            Self::Suspended => Ok(Self::Deploying),
            _ => Err(self.refuse("active")),
        }
    }

    /// Take it away.
    pub fn undeploy(self) -> Result<Self, Transition> {
        match self {
            Self::Undeploying | Self::Undeployed | Self::Newer(_) => {
                Err(self.refuse("undeploying"))
            }
            _ => Ok(Self::Undeploying),
        }
    }

    /// Whether gateways should hold it.
    pub fn is_served(self) -> bool {
        !matches!(self, Self::Undeploying | Self::Undeployed)
    }

    fn refuse(self, to: &'static str) -> Transition {
        Transition { kind: "publish", from: self.as_str(), to }
    }
}

/// What an agent says of the desired revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not every Envoy answered yet, or none is connected.
    Deploying,
    /// At least one Envoy is connected and all acknowledged.
    Acked,
    /// The agent or an Envoy refused it.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_publish_stays_suspended_whatever_the_agent_says() {
        for progress in [Progress::Deploying, Progress::Acked, Progress::Refused] {
            assert_eq!(PublishStatus::Suspended.report(progress), PublishStatus::Suspended);
        }
    }
}
