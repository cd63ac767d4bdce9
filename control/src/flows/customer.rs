//! Customers.

use imp_core::customer::{Customer, CustomerSpec};
use imp_core::scope::TenantScope;
use imp_core::{CustomerId, Meta, TenantId};
use imp_store::customer as table;

use crate::flows::finish_create;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: CustomerSpec,
) -> Result<Customer, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let customer = Customer { id: CustomerId::new(), tenant_id, spec, meta: Meta::new(tx.now) };
    table::insert(&mut tx, &customer).await?;
    finish_create::<Customer>(tx, customer.id).await?;
    Ok(customer)
}

pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Customer,
    spec: CustomerSpec,
) -> Result<Customer, Refusal> {
    let expected = current.meta.version;
    let mut next = Customer { spec, ..current };
    next.meta.touch(tx.now);
    table::update(tx, &next, expected).await?;
    Ok(next)
}
