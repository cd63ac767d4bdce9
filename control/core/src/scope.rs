//! Which objects a caller may see at all. Every query of a tenant-owned table takes a
//! [`TenantScope`]; only authorisation makes one. What lies outside of it does not exist: 404.

use crate::role::{Action, Kind, Role, any_allows};
use crate::{CustomerId, TenantId};

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Of the token; stands in logs and audit rows.
    pub token_id: crate::ApiTokenId,
    /// None: an operator, over all tenants.
    pub tenant_id: Option<TenantId>,
    /// Set for customer roles: only this customer's objects.
    pub customer_id: Option<CustomerId>,
    /// Additive.
    pub roles: Vec<Role>,
}

/// The caller may not do this kind of thing: 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs another role")]
pub struct Forbidden;

impl Principal {
    /// The one door to a [`TenantScope`].
    pub fn authorise(&self, kind: Kind, action: Action) -> Result<TenantScope, Forbidden> {
        if any_allows(&self.roles, kind, action) {
            Ok(TenantScope { tenant: self.tenant_id, customer: self.customer_id })
        } else {
            Err(Forbidden)
        }
    }

    /// What the token itself stands in, for the few operations that need no role (`/v1/me`).
    pub fn own_scope(&self) -> TenantScope {
        TenantScope { tenant: self.tenant_id, customer: self.customer_id }
    }
}

/// The objects that a query may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantScope {
    tenant: Option<TenantId>,
    customer: Option<CustomerId>,
}

impl TenantScope {
    /// What the platform itself sees (compile, jobs): everything. Never for a request.
    pub fn platform() -> Self {
        Self { tenant: None, customer: None }
    }

    /// The one tenant, or None for all.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The one customer inside the tenant, or None for all.
    pub fn customer(&self) -> Option<CustomerId> {
        self.customer
    }

    /// This scope cut down to one tenant, for list filters; None when that is outside of it.
    pub fn within(&self, tenant: TenantId) -> Option<Self> {
        match self.tenant {
            Some(own) if own != tenant => None,
            _ => Some(Self { tenant: Some(tenant), ..*self }),
        }
    }

    /// Whether an object of that tenant is inside.
    pub fn holds(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }
}
