//! Which tenant may use a hostname, and which publish serves it.

use imp_core::TenantId;
use imp_core::check::Violations;
use imp_core::gateway::Gateway;
use imp_core::hostname::{Reserved, reserved, reserved_fault};
use imp_core::product_publish::ProductPublish;
use imp_store::domain::Holder;
use imp_store::product_publish::{self as table, Claim, ClaimTime};
use imp_store::{Soon, listener_port};

use crate::flows::ports::SharedPorts;
use crate::operation::Transaction;
use crate::refusal::Refusal;

/// Requires every hostname to be at or below a domain that the tenant holds, or below a shared one.
/// `holders` are those of [`imp_store::domain::holder_above_soon`], in order.
/// The error is the same whether another tenant holds it or nobody does.
pub(super) async fn refuse_unproven(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostnames: &[String],
    holders: Vec<Soon<Option<Holder>>>,
) -> Result<(), Refusal> {
    let mut v = Violations::new();
    for (index, (hostname, holder)) in hostnames.iter().zip(holders).enumerate() {
        if let Err((code, detail)) = check(tx, tenant, hostname, holder).await? {
            v.within("hostnames", |v| v.add(&index.to_string(), code, detail));
        }
    }
    Ok(v.into_result()?)
}

type Fault = (&'static str, String);

async fn check(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostname: &str,
    holder: Soon<Option<Holder>>,
) -> Result<Result<(), Fault>, Refusal> {
    let reserved = reserved(hostname);
    let refused = || {
        let fault = reserved_fault();
        Err((fault.code, fault.detail))
    };
    if reserved == Some(Reserved::Always) {
        return Ok(refused());
    }
    let holder = tx.now(holder).await?;
    let shared = tx.operation.claims.shared_domains.above(hostname);
    // The longest name decides: a tenant that proves a subdomain owns that subdomain.
    let allowed = match (holder, shared) {
        (Some(holder), shared) if shared.is_none_or(|it| it.len() <= holder.name.len()) => {
            holder.tenant_id() == tenant
        }
        (_, shared) => shared.is_some(),
    };
    Ok(match (allowed, reserved) {
        (true, _) => Ok(()),
        (false, Some(Reserved::Local)) => refused(),
        (false, _) => {
            let detail = format!("{hostname} is not below a domain of yours; see /v1/domains");
            Err(("hostname_not_verified", detail))
        }
    })
}

/// Enforces one tenant per host, one publish per base path of a host and gateway, and one gateway
/// per host at each port of a cluster. The error about another tenant's name says only that it is
/// taken. `former` are the hostnames that may be given up: they are locked together with the
/// others, so that all locks are taken in one order.
pub(super) async fn refuse_taken(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    former: &[String],
) -> Result<(), Refusal> {
    let ProductPublish { tenant_id: tenant, spec, .. } = publish;
    let hostnames = &spec.hostnames;
    let all = [hostnames.as_slice(), former].concat();
    let there = table::claims_on_soon(tx, spec.cluster_id, &all).await?;
    let now = tx.now;
    let held = table::held_by_another_soon(tx, *tenant, hostnames, now).await?;
    let there = tx.all(there).await?.concat();
    if let Some(name) = tx.all(held).await?.into_iter().flatten().next() {
        return Err(taken(hostnames, &name, format!("{name} is not available")));
    }
    let own = there
        .iter()
        .filter(|claim| claim.publish_id != publish.id && hostnames.contains(&claim.hostname));
    let mut shared = SharedPorts::of(spec.gateway_id, spec.cluster_id);
    for claim in own {
        let Claim { hostname, base_path, publish_id, gateway_id, .. } = claim;
        let why = if *gateway_id == spec.gateway_id {
            (*base_path == spec.base_path)
                .then(|| format!("{hostname}{base_path} is served by publish {publish_id}"))
        } else {
            shared.with(tx, *gateway_id).await?.map(|port| at_port(claim, port))
        };
        if let Some(detail) = why {
            return Err(taken(hostnames, hostname, detail));
        }
    }
    Ok(())
}

/// Checks a gateway that changes its ports: no other gateway may have one of its hosts at one of
/// them. No publish on the tenant's gateways can be made meanwhile
/// ([`listener_port::keep_publishes_of`]).
pub(super) async fn refuse_at_ports(
    tx: &mut Transaction<'_>,
    gateway: &Gateway,
) -> Result<(), Refusal> {
    for cluster in listener_port::clusters_of(tx, gateway.id, None).await? {
        let mut shared = SharedPorts::of(gateway.id, cluster);
        for claim in table::beside_gateway(tx, gateway.id, cluster).await? {
            if let Some(port) = shared.with(tx, claim.gateway_id).await? {
                let index = gateway.spec.listeners.iter().position(|it| it.port == port);
                let pointer = format!("/listeners/{}/port", index.unwrap_or_default());
                let detail = at_port(&claim, port);
                return Err(Refusal::conflict("hostname_taken", detail).at(pointer));
            }
        }
    }
    Ok(())
}

fn at_port(claim: &Claim, port: u16) -> String {
    let Claim { hostname, publish_id, gateway_id, .. } = claim;
    format!("at port {port}, {hostname} is served by publish {publish_id} on gateway {gateway_id}")
}

fn taken(hostnames: &[String], name: &str, detail: String) -> Refusal {
    let index = hostnames.iter().position(|it| it == name).unwrap_or(0);
    Refusal::conflict("hostname_taken", detail).at(format!("/hostnames/{index}"))
}

/// Claims the hostnames that the publish now serves and releases the others.
pub(super) async fn claim(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
) -> Result<(), Refusal> {
    let claim = |hostname: &String| Claim {
        publish_id: publish.id,
        tenant_id: publish.tenant_id,
        gateway_id: publish.spec.gateway_id,
        hostname: hostname.clone(),
        base_path: publish.spec.base_path.clone(),
    };
    let claims: Vec<Claim> = publish.spec.hostnames.iter().map(claim).collect();
    let at = time(tx);
    match publish.desired_revision {
        1 => table::insert_claims(tx, publish, &claims, at).await?,
        _ => table::replace_claims(tx, publish, &claims, at).await?,
    }
    Ok(())
}

/// Releases all of the publish's hostnames.
pub(super) async fn release(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
) -> Result<(), Refusal> {
    let at = time(tx);
    Ok(table::replace_claims(tx, publish, &[], at).await?)
}

fn time(tx: &Transaction<'_>) -> ClaimTime {
    ClaimTime { now: tx.now, cooldown: tx.operation.claims.hostname_cooldown }
}
