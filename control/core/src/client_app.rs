//! A client app: a program of a customer's that calls APIs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, ClientAppId, CustomerId, Meta, TenantId, Violations, grammar};

/// What a caller writes of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAppSpec {
    /// Whose it is.
    pub customer_id: CustomerId,
    /// Unique with the customer.
    #[schema(example = "web shop")]
    pub name: String,
}

impl Check for ClientAppSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
    }
}

/// A client app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientApp {
    /// Its id.
    pub id: ClientAppId,
    /// The provider.
    pub tenant_id: TenantId,
    /// What was written.
    #[serde(flatten)]
    pub spec: ClientAppSpec,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}
