//! A ProductPublish: what is served where. Each change makes an immutable revision that holds the
//! rendered inputs; a rollback publishes an earlier one again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use imp_grammar::{caps, headers};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api_service::ApiServiceSpec;
use crate::stored::states;
use crate::{
    ApiServiceId, Check, ClusterId, GatewayId, Meta, ProductId, ProductPublishId, TenantId,
    Transition, Violations, grammar,
};

/// The writable fields of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductPublishSpec {
    /// The product to serve.
    pub product_id: ProductId,
    /// The product's services to serve; all of them when empty.
    #[serde(default)]
    pub api_services: Vec<ApiServiceId>,
    /// The gateway template to serve on.
    pub gateway_id: GatewayId,
    /// The cluster to serve in.
    pub cluster_id: ClusterId,
    /// The environment that subscriptions refer to.
    pub environment: Environment,
    /// How callers authenticate.
    pub auth_mode: AuthMode,
    /// Where callers may send their key besides `X-API-Key`; only with `api_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<KeyLocations>,
    /// The hostnames under which callers reach it; at least one. `*.example.com` stands for every host
    /// below `example.com`, `*` for every host; what is named exactly comes first, then the longest
    /// wildcard.
    #[schema(example = json!(["api.example.com"]))]
    pub hostnames: Vec<String>,
    /// The path below which it is served; `/` when absent.
    #[serde(default = "root")]
    #[schema(example = "/v1")]
    pub base_path: String,
    /// How the configuration reaches the gateway.
    #[serde(default)]
    pub delivery: Delivery,
}

/// Further places of API keys, for callers that cannot set `X-API-Key`. The gateway removes the key
/// from the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLocations {
    /// The name of a header: one with `key` or `token` in it, or `authorization`, in which the key
    /// follows the word `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "apikey")]
    pub header: Option<String>,
    /// The name of a query parameter. Queries are often logged on the way: prefer a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "api_key")]
    pub query: Option<String>,
}

impl Check for KeyLocations {
    fn check(&self, v: &mut Violations) {
        if self.header.is_none() && self.query.is_none() {
            v.add("", "required", "a header, a query parameter or both");
        }
        if self
            .header
            .as_ref()
            .is_some_and(|name| !headers::is_key_header(&name.to_ascii_lowercase()))
        {
            let detail = "authorization, or letters, digits and '-' with 'key' or 'token' in it; not x-api-key, and none of the gateway's own";
            v.add("header", "invalid_key_header", detail);
        }
        if self.query.as_deref().is_some_and(|name| !headers::is_key_parameter(name)) {
            let detail = "1 to 64 letters, digits, '-', '_' and '.'";
            v.add("query", "invalid_key_parameter", detail);
        }
    }

    fn canonicalise(&mut self) {
        if let Some(header) = &mut self.header {
            header.make_ascii_lowercase();
        }
    }
}

fn root() -> String {
    "/".to_owned()
}

states! {
    /// The environments of a product.
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
    /// The word in JSON.
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
    /// How callers authenticate.
    pub enum AuthMode {
        /// No authentication.
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
    /// The word in JSON.
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
        /// By xDS for gateways of class `envoy-gateway`, and by Gateway API while none of their Envoys is connected;
        /// by Gateway API for others.
        #[default]
        Auto,
        /// By xDS only.
        Xds,
        /// By Gateway API.
        Crd,
    }
}

impl Delivery {
    /// The word in JSON.
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
        if let Some(locations) = &self.api_key {
            if self.auth_mode != AuthMode::ApiKey {
                v.add("api_key", "no_effect", "only with auth_mode api_key");
            }
            v.within("api_key", |v| locations.check(v));
        }
        v.at_most("api_services", self.api_services.len(), &caps::SERVICES_PER_PUBLISH);
        if self.hostnames.is_empty() {
            v.add("hostnames", "required", "at least one hostname");
        }
        v.at_most("hostnames", self.hostnames.len(), &caps::HOSTNAMES_PER_PUBLISH);
        let mut seen = HashSet::new();
        v.each("hostnames", &self.hostnames, |v, hostname| {
            let canonical = v.take("", grammar::hostname_pattern(hostname));
            if canonical.is_some_and(|name| !seen.insert(name)) {
                v.add("", "duplicate_hostname", "this hostname is in the list already");
            }
        });
        v.take("base_path", grammar::base_path(&self.base_path));
    }

    fn canonicalise(&mut self) {
        if let Some(locations) = &mut self.api_key {
            locations.canonicalise();
        }
        for hostname in &mut self.hostnames {
            if let Ok(canonical) = grammar::hostname_pattern(hostname) {
                *hostname = canonical;
            }
        }
    }
}

/// A publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductPublish {
    /// The publish's unique id.
    pub id: ProductPublishId,
    /// The tenant that owns it.
    pub tenant_id: TenantId,
    /// Its state in the life cycle.
    pub status: PublishStatus,
    /// The revision that should be served.
    pub desired_revision: i64,
    /// The newest revision that every connected Envoy has acknowledged; 0 if there is none.
    pub acked_revision: i64,
    /// How many Envoys of the gateway have acknowledged or rejected the desired revision.
    pub nodes: NodeCounts,
    /// Why it failed, or what delays it.
    pub last_error: Option<PublishError>,
    /// What else the agents say of it.
    #[serde(default)]
    pub conditions: Vec<PublishCondition>,
    /// When the desired revision became active.
    pub activated_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub spec: ProductPublishSpec,
    #[serde(flatten)]
    pub meta: Meta,
}

/// Envoys by their answer to the desired revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// Envoys that acknowledged it.
    pub acked: u32,
    /// Envoys that rejected it.
    pub nacked: u32,
    /// Envoys that have not answered yet.
    pub behind: u32,
}

/// Why a publish failed, or a gateway is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishError {
    /// A stable word: `envoy_nack`, `agent_rejected`, `gateway_refused`, `gateway_api_refused`, `not_served`,
    /// `no_module`, `no_answer`, `host_taken`, `host_not_admitted`, `too_many_hosts`.
    pub code: String,
    /// The Envoy resource that was rejected, if any.
    pub resource: String,
    /// Envoy's error message.
    pub envoy_message: String,
    /// What to do about it.
    pub hint: String,
}

/// What agents say of a publish beside its status; at most one of each type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishCondition {
    /// A stable word: `delivery` (it is not delivered by xDS, although it could be) or `drifted` (somebody else
    /// has changed an object of it in Kubernetes).
    #[serde(rename = "type")]
    pub kind: String,
    /// Why, in a word. `delivery`: `no_envoy`, `returning`; `drifted`: `correcting`, `corrected`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The object that has drifted: kind, namespace and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field in which it has, as a JSON pointer, or `deleted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The field manager that wrote last, as the API server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the object was put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_at: Option<DateTime<Utc>>,
}

/// One immutable revision of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishRevision {
    /// The publish that it belongs to.
    pub product_publish_id: ProductPublishId,
    /// The revision's number: 1, 2, 3 ...
    pub revision: i64,
    /// SHA-256 of the content, hexadecimal.
    pub content_hash: String,
    /// The publish as it was requested.
    pub spec: ProductPublishSpec,
    /// The services as they were at that time.
    pub api_services: Vec<FrozenApiService>,
    /// When the revision was made.
    pub created_at: DateTime<Utc>,
}

/// An API service's content at the time of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FrozenApiService {
    /// The id of the service.
    pub id: ApiServiceId,
    /// The service's revision.
    pub revision: i64,
    /// The content of the service.
    pub spec: ApiServiceSpec,
}

states! {
    /// pending -> deploying -> active | failed; active <-> suspended; -> undeploying -> undeployed.
    /// `unknown` is shown while no agent is connected; it is never stored.
    pub enum PublishStatus {
        /// No agent has it yet.
        Pending,
        /// On its way to the Envoys.
        Deploying,
        /// Every connected Envoy acknowledged it.
        Active,
        /// Rejected; the previous revision keeps serving.
        Failed,
        /// Answers 503 because it was suspended.
        Suspended,
        /// Being removed.
        Undeploying,
        /// Removed from every Envoy.
        Undeployed,
        /// No agent is connected.
        Unknown,
    }
}

impl PublishStatus {
    /// The word in JSON.
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

    /// A new revision is to be served.
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

    /// Suspends it: calls are answered with 503.
    pub fn suspend(self) -> Result<Self, Transition> {
        match self {
            Self::Pending | Self::Deploying | Self::Active | Self::Failed => Ok(Self::Suspended),
            _ => Err(self.refuse("suspended")),
        }
    }

    /// Resumes it.
    pub fn resume(self) -> Result<Self, Transition> {
        match self {
            Self::Suspended => Ok(Self::Deploying),
            _ => Err(self.refuse("active")),
        }
    }

    /// Begins its removal.
    pub fn undeploy(self) -> Result<Self, Transition> {
        match self {
            Self::Undeploying | Self::Undeployed | Self::Newer(_) => {
                Err(self.refuse("undeploying"))
            }
            _ => Ok(Self::Undeploying),
        }
    }

    /// Whether gateways should have it.
    pub fn is_served(self) -> bool {
        !matches!(self, Self::Undeploying | Self::Undeployed)
    }

    fn refuse(self, to: &'static str) -> Transition {
        Transition { kind: "publish", from: self.as_str(), to }
    }
}

/// An agent's report on the desired revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Some Envoys have not answered yet, or none is connected.
    Deploying,
    /// At least one Envoy is connected and all acknowledged.
    Acked,
    /// The agent or an Envoy rejected it.
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
