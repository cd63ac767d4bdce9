//! Hostnames that are wildcards: what other tenants hold below them, and who has them.

use chrono::{DateTime, Utc};
use imp_core::hostname::{
    CATCH_ALL, KEPT_OUT_HOSTS_PER_PUBLISH, below_wildcard, is_wildcard, lineage,
};
use imp_core::{ProductPublishId, TenantId};
use uuid::Uuid;

use crate::db::Conn;
use crate::table::micros;
use crate::{Result, Tx, domain, lock};

/// Excludes changes of who holds what below wildcards until the transaction ends. To be taken before
/// any other lock of hostnames and domains.
pub async fn hold_all(tx: &mut Tx) -> Result<()> {
    lock::alone(tx, "wildcards").await
}

/// What the wildcards of a tenant do not take, as hosts and wildcards: domains below them that other
/// tenants hold. A wildcard that is below such a domain itself, or above more of them than gateways are
/// told, is in the list, which means that it is served nowhere.
pub(crate) async fn kept_out(
    conn: &mut Conn<'_>,
    tenant: TenantId,
    hostnames: &[String],
) -> Result<Vec<String>> {
    let mut kept_out = Vec::new();
    for wildcard in hostnames.iter().filter(|it| is_wildcard(it)) {
        if let Some(name) = below_wildcard(wildcard) {
            let holder = domain::holder_of(conn.again(), name, "").await?;
            if holder.is_none_or(|holder| holder.tenant_id() != tenant) {
                kept_out.push(wildcard.clone());
                continue;
            }
        }
        let foreign = foreign_domains(conn, tenant, wildcard).await?;
        kept_out.extend(foreign.into_iter().flat_map(|name| [format!("*.{name}"), name]));
    }
    kept_out.sort_unstable();
    kept_out.dedup();
    if KEPT_OUT_HOSTS_PER_PUBLISH.admits(kept_out.len()) {
        return Ok(kept_out);
    }
    Ok(hostnames.iter().filter(|it| is_wildcard(it)).cloned().collect())
}

/// The same, of a transaction that is about to claim them.
pub async fn kept_out_of(
    tx: &mut Tx,
    tenant: TenantId,
    hostnames: &[String],
) -> Result<Vec<String>> {
    kept_out(&mut tx.conn(), tenant, hostnames).await
}

/// Domains below a wildcard that other tenants hold: at most one more than gateways are told.
async fn foreign_domains(
    conn: &mut Conn<'_>,
    tenant: TenantId,
    wildcard: &str,
) -> Result<Vec<String>> {
    let below = match below_wildcard(wildcard) {
        Some(name) => format!("%.{name}"),
        None => "%".to_owned(),
    };
    let sql = "SELECT held_name FROM domains WHERE held_name LIKE $1 AND held_name <> $2 \
        AND tenant_id <> $3 ORDER BY held_name LIMIT $4";
    let most = KEPT_OUT_HOSTS_PER_PUBLISH.value.cast_signed() + 1;
    let rows = fetch!(conn.again(), "domains", (String,), sql, &below, CATCH_ALL, tenant.0, most)?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// A hostname below this name that another tenant has, or that is reserved for it, and that no domain
/// of another tenant covers. Such a one came before the domain above it.
pub async fn foreign_host_below(
    tx: &mut Tx,
    tenant: TenantId,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<String>> {
    let sql = "SELECT h.hostname FROM hostname_holders h WHERE h.hostname LIKE $1 \
        AND h.tenant_id <> $2 AND (h.free_at IS NULL OR h.free_at > $3) \
        AND NOT EXISTS (SELECT 1 FROM domains d WHERE d.held_name LIKE $1 AND d.tenant_id <> $2 \
            AND (d.held_name = h.hostname OR h.hostname LIKE '%.' || d.held_name)) \
        ORDER BY h.hostname LIMIT 1";
    let (below, now) = (format!("%.{name}"), micros(now));
    let rows = fetch!(tx.conn(), "hostname_holders", (String,), sql, &below, tenant.0, now)?;
    Ok(rows.into_iter().next().map(|(hostname,)| hostname))
}

/// Publishes of other tenants whose wildcards this domain concerns: those above it and those at or
/// below it.
pub async fn concerned_by(
    tx: &mut Tx,
    tenant: TenantId,
    domain: &str,
) -> Result<Vec<ProductPublishId>> {
    let sql = "SELECT DISTINCT product_publish_id FROM product_publish_claims \
        WHERE tenant_id <> $1 AND hostname LIKE '*.%' AND hostname LIKE $2";
    let below = format!("%.{domain}");
    let mut found = fetch!(tx.conn(), "product_publish_claims", (Uuid,), sql, tenant.0, &below)?;
    let above = lineage(domain).skip(1).map(|name| format!("*.{name}"));
    for wildcard in above.chain([CATCH_ALL.to_owned()]) {
        let sql = "SELECT DISTINCT product_publish_id FROM product_publish_claims \
            WHERE tenant_id <> $1 AND hostname = $2";
        let rows = fetch!(tx.conn(), "product_publish_claims", (Uuid,), sql, tenant.0, &wildcard);
        found.extend(rows?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(|(id,)| id.into()).collect())
}
