//! A credential: what a consumer shows at the gateway.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::states;
use crate::{Check, ConsumerId, CredentialId, CustomerId, Meta, TenantId, Transition, Violations};

/// What a caller writes of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSpec {
    /// Whose it is.
    pub consumer_id: ConsumerId,
    /// What it is.
    #[serde(rename = "type", default)]
    pub kind: CredentialType,
    /// Never, when absent.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

states! {
    /// What a credential is.
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
    /// As in JSON.
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

/// A credential; its secret was shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// The provider.
    pub tenant_id: TenantId,
    /// The customer.
    pub customer_id: CustomerId,
    /// What was written.
    #[serde(flatten)]
    pub spec: CredentialSpec,
    /// To recognise it by.
    #[schema(example = "imp_key_3kTz")]
    pub prefix: String,
    /// To recognise it by.
    #[schema(example = "9f0Q")]
    pub last4: String,
    /// Where it stands.
    pub status: CredentialStatus,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

states! {
    /// active -> revoked, for good. Expiry is the clock's business.
    pub enum CredentialStatus {
        /// Opens.
        Active,
        /// Never opens again.
        Revoked,
    }
}

impl CredentialStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Active => "active",
            Self::Revoked => "revoked",
        }
    }

    /// Never opens again. Also from a state of a newer release, in which that release may let it open:
    /// who revokes a key must not depend on which replica answers.
    pub fn revoke(self) -> Result<Self, Transition> {
        match self {
            Self::Active | Self::Newer(_) => Ok(Self::Revoked),
            Self::Revoked => Err(Transition { kind: "credential", from: "revoked", to: "revoked" }),
        }
    }
}
