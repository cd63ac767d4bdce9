//! Scopes: which objects a caller may see at all. Every query of a tenant-owned table takes a
//! [`TenantScope`]; only authorisation creates one. Objects outside of it do not exist for the
//! caller: 404.

use crate::role::{Action, Kind, Role, any_allows};
use crate::{CustomerId, TenantId};

/// The authenticated owner of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's id, for logs and audit rows.
    pub token_id: crate::ApiTokenId,
    /// `None` for an operator, who acts over all tenants.
    pub tenant_id: Option<TenantId>,
    /// Set for customer roles: only this customer's objects.
    pub customer_id: Option<CustomerId>,
    /// The roles, which are additive.
    pub roles: Vec<Role>,
}

/// The caller lacks the permission: 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs another role")]
pub struct Forbidden;

impl Principal {
    /// Checks the permission and returns the scope. The only way for a request to get a
    /// [`TenantScope`].
    pub fn authorise(&self, kind: Kind, action: Action) -> Result<TenantScope, Forbidden> {
        if any_allows(&self.roles, kind, action) {
            Ok(TenantScope { tenant: self.tenant_id, customer: self.customer_id })
        } else {
            Err(Forbidden)
        }
    }

    /// The token's own scope, for the few operations that need no role (`/v1/me`).
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
    /// Everything, for the platform itself (compile, jobs). Never for a request.
    pub fn platform() -> Self {
        Self { tenant: None, customer: None }
    }

    /// The only visible tenant, or `None` for all.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The only visible customer, or `None` for all of the tenant.
    pub fn customer(&self) -> Option<CustomerId> {
        self.customer
    }

    /// This scope narrowed to one tenant, for list filters; `None` if that tenant is outside of it.
    pub fn within(&self, tenant: TenantId) -> Option<Self> {
        match self.tenant {
            Some(own) if own != tenant => None,
            _ => Some(Self { tenant: Some(tenant), ..*self }),
        }
    }

    /// Whether the tenant's objects are inside.
    pub fn holds(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }
}
