//! Tenants.

use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use imp_core::{Meta, TenantId};
use imp_store::tenant as table;

use crate::flows::finish_create;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: TenantSpec,
) -> Result<Tenant, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let tenant = Tenant { id: TenantId::new(), spec, meta: Meta::new(tx.now) };
    table::insert(&mut tx, &tenant).await?;
    finish_create::<Tenant>(tx, tenant.id).await?;
    Ok(tenant)
}

pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Tenant,
    spec: TenantSpec,
) -> Result<Tenant, Refusal> {
    let expected = current.meta.version;
    let mut next = Tenant { spec, ..current };
    next.meta.touch(tx.now);
    table::update(tx, &next, expected).await?;
    Ok(next)
}
