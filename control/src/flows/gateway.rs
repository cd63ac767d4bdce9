//! Gateways: templates of listeners.

use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::scope::TenantScope;
use imp_core::{GatewayId, Meta, TenantId};
use imp_store::{listener_port, product_publish};

use crate::flows::{hostnames, ports, publish};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: GatewaySpec,
) -> Result<Gateway, Refusal> {
    let tx = Transaction::begin(operation, scope).await?;
    ports::refuse_reserved(&tx, &spec)?;
    let gateway = Gateway { id: GatewayId::new(), tenant_id, spec, meta: Meta::new(tx.now) };
    super::create(tx, gateway).await
}

/// Changes the gateway and claims its new listeners' ports wherever it has publishes.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Gateway,
    spec: GatewaySpec,
) -> Result<Gateway, Refusal> {
    let listens = |spec: &GatewaySpec| spec.listeners.iter().map(|it| it.port).collect::<Vec<_>>();
    let moves = listens(&current.spec) != listens(&spec);
    let next = Gateway { spec, ..current };
    match moves {
        // It may share a port with another of the tenant's gateways that has one of its hosts.
        true => listener_port::keep_publishes_of(tx, next.tenant_id).await?,
        false => listener_port::keep_publishes(tx, next.id).await?,
    }
    refuse_to_strand(tx, &next).await?;
    ports::change(tx, &next).await?;
    if moves {
        hostnames::refuse_at_ports(tx, &next).await?;
    }
    tx.save(next).await
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
