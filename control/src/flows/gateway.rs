//! Gateways: templates of listeners.

use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::scope::TenantScope;
use imp_core::{GatewayId, Meta, TenantId};
use imp_store::gateway as table;
use imp_store::outbox::Subject;
use imp_store::{listener_port, product_publish};

use crate::flows::{finish_create, ports, publish};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: GatewaySpec,
) -> Result<Gateway, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    ports::refuse_reserved(&tx, &spec)?;
    let gateway = Gateway { id: GatewayId::new(), tenant_id, spec, meta: Meta::new(tx.now) };
    table::insert(&mut tx, &gateway).await?;
    tx.note(Subject::Gateway(gateway.id)).await?;
    finish_create::<Gateway>(tx, gateway.id).await?;
    Ok(gateway)
}

/// Claims the ports of its new listeners wherever it has publishes.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Gateway,
    spec: GatewaySpec,
) -> Result<Gateway, Refusal> {
    let expected = current.meta.version;
    let mut next = Gateway { spec, ..current };
    listener_port::keep_publishes(tx, next.id).await?;
    refuse_to_strand(tx, &next).await?;
    ports::change(tx, &next).await?;
    next.meta.touch(tx.now);
    table::update(tx, &next, expected).await?;
    tx.note(Subject::Gateway(next.id)).await?;
    Ok(next)
}

pub async fn delete(tx: &mut Transaction<'_>, gateway: Gateway) -> Result<(), Refusal> {
    tx.delete::<Gateway>(gateway.id).await?;
    tx.note(Subject::Gateway(gateway.id)).await
}

/// A listener's new hostname must still admit what is published on the gateway.
async fn refuse_to_strand(tx: &mut Transaction<'_>, gateway: &Gateway) -> Result<(), Refusal> {
    for hostname in product_publish::hostnames_of_gateway(tx, gateway.id).await? {
        if !publish::admits(gateway, &hostname) {
            let detail = format!("a publish on this gateway serves {hostname}");
            return Err(Refusal::conflict("in_use", detail).at("/listeners"));
        }
    }
    Ok(())
}
