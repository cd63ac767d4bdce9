//! A customer: the company that buys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, CustomerId, Meta, TenantId, Violations, grammar};

/// The writable fields of a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerSpec {
    /// Unique in the tenant.
    #[schema(example = "Shop Ltd")]
    pub name: String,
}

impl Check for CustomerSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Customer {
    /// The customer's unique id.
    pub id: CustomerId,
    /// The tenant of the API provider.
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub spec: CustomerSpec,
    #[serde(flatten)]
    pub meta: Meta,
}
