//! A credential: what a consumer authenticates with at the gateway.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::states;
use crate::{Check, ConsumerId, CredentialId, CustomerId, Meta, TenantId, Transition, Violations};

/// The writable fields of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSpec {
    /// The consumer that it belongs to.
    pub consumer_id: ConsumerId,
    /// The type of the credential.
    #[serde(rename = "type", default)]
    pub kind: CredentialType,
    /// When it expires; never when absent.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

states! {
    /// The types of credentials.
    #[derive(Default)]
    pub enum CredentialType {
        /// A key in `X-API-Key`.
        #[default]
        ApiKey,
        /// Not supported yet.
        OauthClient,
    }
}

impl CredentialType {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::OauthClient => "oauth_client",
            Self::Newer(word) => word.as_str(),
        }
    }
}

impl Check for CredentialSpec {
    fn check(&self, v: &mut Violations) {
        if self.kind != CredentialType::ApiKey {
            v.add("type", "unsupported_credential_type", "only api_key is supported yet");
        }
    }
}

/// A credential; its secret is shown only at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    /// The credential's unique id.
    pub id: CredentialId,
    /// The tenant of the API provider.
    pub tenant_id: TenantId,
    /// The customer of the consumer.
    pub customer_id: CustomerId,
    #[serde(flatten)]
    pub spec: CredentialSpec,
    /// The start of the secret, to recognise the credential.
    #[schema(example = "imp_key_3kTz")]
    pub prefix: String,
    /// The end of the secret, to recognise the credential.
    #[schema(example = "9f0Q")]
    pub last4: String,
    /// Whether it is active or revoked.
    pub status: CredentialStatus,
    #[serde(flatten)]
    pub meta: Meta,
}

states! {
    /// active -> revoked, permanently. Expiry depends on the time and is no state.
    pub enum CredentialStatus {
        /// Accepted at the gateway until it expires.
        Active,
        /// Permanently refused.
        Revoked,
    }
}

impl CredentialStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Active => "active",
            Self::Revoked => "revoked",
        }
    }

    /// Revokes it permanently. Also from a state of a newer release, which may accept it in that
    /// state: whether a key can be revoked must not depend on which replica answers.
    pub fn revoke(self) -> Result<Self, Transition> {
        match self {
            Self::Active | Self::Newer(_) => Ok(Self::Revoked),
            Self::Revoked => Err(Transition { kind: "credential", from: "revoked", to: "revoked" }),
        }
    }
}
