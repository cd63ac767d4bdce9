//! Client apps.

use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::customer::Customer;
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, Meta};

use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: ClientAppSpec,
) -> Result<ClientApp, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let customer = tx.refer::<Customer>(spec.customer_id, "/customer_id").await?;
    tx.within(customer.tenant_id)?;
    let (id, tenant_id) = (ClientAppId::new(), customer.tenant_id);
    let app = ClientApp { id, tenant_id, spec, meta: Meta::new(tx.now) };
    super::create(tx, app).await
}
