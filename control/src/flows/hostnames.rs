//! Which tenant may serve under which hostname, and which publish does.

use imp_core::TenantId;
use imp_core::check::Violations;
use imp_core::hostname::{Reserved, reserved, reserved_fault};
use imp_core::product_publish::{ProductPublish, base_paths_overlap};
use imp_store::domain;
use imp_store::product_publish::{self as table, Claim, ClaimTime};

use crate::operation::Transaction;
use crate::refusal::Refusal;

/// Every hostname lies at or below a domain that the tenant holds, or below a shared one. The answer
/// is the same whether another tenant holds it or nobody does.
pub(super) async fn refuse_unproven(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostnames: &[String],
) -> Result<(), Refusal> {
    let mut v = Violations::new();
    for (index, hostname) in hostnames.iter().enumerate() {
        if let Err((code, detail)) = check(tx, tenant, hostname).await? {
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
) -> Result<Result<(), Fault>, Refusal> {
    let reserved = reserved(hostname);
    let refused = || {
        let fault = reserved_fault();
        Err((fault.code, fault.detail))
    };
    if reserved == Some(Reserved::Always) {
        return Ok(refused());
    }
    let holder = domain::holder_above(tx, hostname).await?;
    let shared = tx.operation.claims.shared_domains.above(hostname);
    // The longest name decides: the tenant that proves a part of a domain owns that part.
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

/// One tenant per host, and no two publishes in a cluster that would take each other's calls. Of
/// another tenant's nothing is told but that the name is taken. `former` are the hostnames that it
/// may give up: they are held with the others, so that all are held in one order.
pub(super) async fn refuse_taken(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    former: &[String],
) -> Result<(), Refusal> {
    let hostnames = &publish.spec.hostnames;
    let all = [hostnames.as_slice(), former].concat();
    let there = table::claims_on(tx, publish.spec.cluster_id, &all).await?;
    let (tenant, now) = (publish.tenant_id, tx.now);
    if let Some(name) = table::held_by_another(tx, tenant, hostnames, now).await? {
        return Err(taken(hostnames, &name, format!("{name} is not available")));
    }
    let own = there
        .iter()
        .filter(|claim| claim.publish_id != publish.id && hostnames.contains(&claim.hostname));
    for Claim { hostname, base_path, publish_id, .. } in own {
        if base_paths_overlap(base_path, &publish.spec.base_path) {
            let detail = format!("{hostname}{base_path} is served by publish {publish_id}");
            return Err(taken(hostnames, hostname, detail));
        }
    }
    Ok(())
}

fn taken(hostnames: &[String], name: &str, detail: String) -> Refusal {
    let index = hostnames.iter().position(|it| it == name).unwrap_or(0);
    Refusal::conflict("hostname_taken", detail).at(format!("/hostnames/{index}"))
}

/// Claims what the publish serves now, and gives up the rest.
pub(super) async fn claim(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
) -> Result<(), Refusal> {
    let claim = |hostname: &String| Claim {
        publish_id: publish.id,
        tenant_id: publish.tenant_id,
        hostname: hostname.clone(),
        base_path: publish.spec.base_path.clone(),
    };
    let claims: Vec<Claim> = publish.spec.hostnames.iter().map(claim).collect();
    let at = time(tx);
    Ok(table::replace_claims(tx, publish, &claims, at).await?)
}

/// Gives up all of it.
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
