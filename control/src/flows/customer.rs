//! Customers.

use imp_core::customer::{Customer, CustomerSpec};
use imp_core::scope::TenantScope;
use imp_core::{CustomerId, Meta, TenantId};

use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: CustomerSpec,
) -> Result<Customer, Refusal> {
    let tx = Transaction::begin(operation, scope).await?;
    let customer = Customer { id: CustomerId::new(), tenant_id, spec, meta: Meta::new(tx.now) };
    super::create(tx, customer).await
}
