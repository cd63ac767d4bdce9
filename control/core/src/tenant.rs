//! A tenant: an organisation, the highest unit of isolation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, Meta, TenantId, Violations, grammar};

/// The writable fields of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// A display name for people.
    #[schema(example = "Acme Payments")]
    pub name: String,
    /// Unique over all tenants, immutable; may replace the id in paths.
    #[schema(example = "acme")]
    pub slug: String,
}

impl Check for TenantSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("slug", grammar::slug(&self.slug));
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// The tenant's unique id.
    pub id: TenantId,
    #[serde(flatten)]
    pub spec: TenantSpec,
    #[serde(flatten)]
    pub meta: Meta,
}
