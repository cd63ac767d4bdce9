//! Tenants.

use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use imp_core::{Meta, TenantId};

use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: TenantSpec,
) -> Result<Tenant, Refusal> {
    let tx = Transaction::begin(operation, scope).await?;
    let tenant = Tenant { id: TenantId::new(), spec, meta: Meta::new(tx.now) };
    super::create(tx, tenant).await
}
