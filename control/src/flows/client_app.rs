//! Client apps.

use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::customer::Customer;
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, Meta};
use imp_store::client_app as table;

use crate::flows::finish_create;
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
    table::insert(&mut tx, &app).await?;
    finish_create::<ClientApp>(tx, id).await?;
    Ok(app)
}

pub async fn edit(
    tx: &mut Transaction<'_>,
    current: ClientApp,
    spec: ClientAppSpec,
) -> Result<ClientApp, Refusal> {
    let expected = current.meta.version;
    let mut next = ClientApp { spec, ..current };
    next.meta.touch(tx.now);
    table::update(tx, &next, expected).await?;
    Ok(next)
}
