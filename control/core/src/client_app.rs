//! A client app: a customer's program that calls APIs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, ClientAppId, CustomerId, Meta, TenantId, Violations, grammar};

/// The writable fields of a client app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAppSpec {
    /// The customer that owns it.
    pub customer_id: CustomerId,
    /// Unique in the customer.
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
    /// The app's unique id.
    pub id: ClientAppId,
    /// The tenant of the API provider.
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub spec: ClientAppSpec,
    #[serde(flatten)]
    pub meta: Meta,
}
