//! Tables `product_publish_claims`, `hostname_owners` and `hostname_holders`: which publish serves
//! which hostname and base path, on which gateway of a cluster. A host belongs to one tenant in all
//! clusters, and stays reserved for a while after its last claim.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::product_publish::ProductPublish;
use imp_core::{ClusterId, GatewayId, ProductPublishId, TenantId};
use uuid::Uuid;

use crate::error::foreign_key;
use crate::sql::any;
use crate::table::micros;
use crate::{Result, Soon, StoreError, Tx, lock};

/// The time of a change of claims.
#[derive(Clone, Copy, Debug)]
pub struct ClaimTime {
    /// The current time.
    pub now: DateTime<Utc>,
    /// How long an unclaimed host stays reserved for its former tenant.
    pub cooldown: TimeDelta,
}

/// A hostname and base path that a publish serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub publish_id: ProductPublishId,
    pub tenant_id: TenantId,
    pub gateway_id: GatewayId,
    pub hostname: String,
    pub base_path: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    product_publish_id: Uuid,
    tenant_id: Uuid,
    gateway_id: Uuid,
    hostname: String,
    base_path: String,
}

impl From<Row> for Claim {
    fn from(row: Row) -> Self {
        Self {
            publish_id: row.product_publish_id.into(),
            tenant_id: row.tenant_id.into(),
            gateway_id: row.gateway_id.into(),
            hostname: row.hostname,
            base_path: row.base_path,
        }
    }
}

/// A row as it stands, be its gateway the publish's or not.
#[derive(sqlx::FromRow)]
struct Written {
    product_publish_id: Uuid,
    tenant_id: Uuid,
    gateway_id: Option<Uuid>,
    hostname: String,
    base_path: String,
}

impl Written {
    fn is(&self, claim: &Claim) -> bool {
        self.product_publish_id == claim.publish_id.0
            && self.tenant_id == claim.tenant_id.0
            && self.gateway_id == Some(claim.gateway_id.0)
            && self.hostname == claim.hostname
            && self.base_path == claim.base_path
    }
}

/// What every tenant's publishes claim on these hosts of a cluster. Until the transaction ends
/// nobody else can ask or claim there, so the answer stays true.
pub async fn claims_on(
    tx: &mut Tx,
    cluster: ClusterId,
    hostnames: &[String],
) -> Result<Vec<Claim>> {
    let soon = claims_on_soon(tx, cluster, hostnames).await?;
    Ok(tx.all(soon).await?.concat())
}

/// Like [`claims_on`], host by host, for answers that are needed later.
pub async fn claims_on_soon(
    tx: &mut Tx,
    cluster: ClusterId,
    hostnames: &[String],
) -> Result<Vec<Soon<Vec<Claim>>>> {
    let hostnames: BTreeSet<&str> = hostnames.iter().map(String::as_str).collect();
    hold(tx, &hostnames).await?;
    // Claims of the former release have no gateway; it is in the publish.
    let sql = "SELECT c.product_publish_id, c.tenant_id, p.gateway_id, c.hostname, c.base_path \
        FROM product_publish_claims c JOIN product_publishes p ON p.id = c.product_publish_id \
        WHERE c.cluster_id = $1 AND c.hostname = $2 ORDER BY c.base_path, c.product_publish_id";
    let read = |rows: Vec<Row>| Ok(rows.into_iter().map(Claim::from).collect());
    let mut claims = Vec::new();
    for hostname in hostnames {
        let table = "product_publish_claims";
        claims.push(soon!(tx.conn(), table, Row, read, sql, cluster.0, hostname)?);
    }
    Ok(claims)
}

/// The first of the hosts that belongs to another tenant: claimed in some cluster, or still
/// reserved. The hosts are locked until the transaction ends, so the result stays valid.
pub async fn held_by_another(
    tx: &mut Tx,
    tenant: TenantId,
    hostnames: &[String],
    now: DateTime<Utc>,
) -> Result<Option<String>> {
    let soon = holders_soon(tx, hostnames, now).await?;
    let holders = tx.all(soon).await?;
    Ok(hostnames.iter().zip(holders).find(|(_, it)| is_another(*it, tenant)).map(|it| it.0.clone()))
}

/// Whether a host that this tenant holds is another's.
pub fn is_another(holder: Option<TenantId>, tenant: TenantId) -> bool {
    holder.is_some_and(|holder| holder != tenant)
}

/// The tenants that the hosts belong to or are reserved for, host by host, for answers that are needed later.
/// The hosts are locked until the transaction ends, so the answers stay true.
pub async fn holders_soon(
    tx: &mut Tx,
    hostnames: &[String],
    now: DateTime<Utc>,
) -> Result<Vec<Soon<Option<TenantId>>>> {
    hold(tx, &hostnames.iter().map(String::as_str).collect()).await?;
    let sql = "SELECT tenant_id FROM hostname_holders WHERE hostname = $1 \
        AND (free_at IS NULL OR free_at > $2)";
    let read = |rows: Vec<(Uuid,)>| Ok(rows.into_iter().next().map(|(tenant,)| tenant.into()));
    let (table, now) = ("hostname_holders", micros(now));
    let mut holders = Vec::with_capacity(hostnames.len());
    for hostname in hostnames {
        holders.push(soon!(tx.conn(), table, (Uuid,), read, sql, hostname, now)?);
    }
    Ok(holders)
}

/// Deletes hosts that are free again. Returns how many.
pub async fn forget_free_hostnames(tx: &mut Tx, now: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM hostname_holders WHERE free_at <= $1";
    execute!(tx.conn(), sql, micros(now))
}

/// The claims that a publish has, for [`replace_former_claims`].
pub struct Former(Soon<Vec<Written>>);

/// Asks for the claims that a publish has.
pub async fn former_claims_soon(tx: &mut Tx, publish: ProductPublishId) -> Result<Former> {
    // The former release leaves out the gateway, or the one where the publish was before: the unique index
    // holds only for what is rewritten.
    let sql = "SELECT product_publish_id, tenant_id, gateway_id, hostname, base_path \
        FROM product_publish_claims WHERE product_publish_id = $1";
    let table = "product_publish_claims";
    Ok(Former(soon!(tx.conn(), table, Written, Ok, sql, publish.0)?))
}

/// Replaces the publish's claims, all in its own cluster and for its own tenant. Returns
/// [`StoreError::Taken`] if another publish or tenant holds one.
pub async fn replace_claims(
    tx: &mut Tx,
    publish: &ProductPublish,
    claims: &[Claim],
    at: ClaimTime,
) -> Result<()> {
    let former = former_claims_soon(tx, publish.id).await?;
    replace_former_claims(tx, publish, former, claims, at).await
}

/// Like [`replace_claims`], for a publish whose claims were asked for, and are changed by nobody since then.
pub async fn replace_former_claims(
    tx: &mut Tx,
    publish: &ProductPublish,
    Former(former): Former,
    claims: &[Claim],
    at: ClaimTime,
) -> Result<()> {
    let former = tx.now(former).await?;
    let stands = |claim: &Claim| former.iter().any(|it| it.is(claim));
    if former.len() == claims.len() && claims.iter().all(stands) {
        return Ok(());
    }
    let given: BTreeSet<String> = former.iter().map(|it| it.hostname.clone()).collect();
    let kept: BTreeSet<String> = claims.iter().map(|it| it.hostname.clone()).collect();
    let cluster = publish.spec.cluster_id;
    hold(tx, &given.union(&kept).map(String::as_str).collect()).await?;
    if !former.is_empty() {
        let sql = "DELETE FROM product_publish_claims WHERE product_publish_id = $1";
        execute!(tx.conn(), sql, publish.id.0)?;
    }
    insert_all(tx, publish, claims, at).await?;
    let sql = "DELETE FROM hostname_owners WHERE cluster_id = $1 AND hostname = $2 \
        AND NOT EXISTS (SELECT 1 FROM product_publish_claims \
            WHERE cluster_id = $1 AND hostname = $2)";
    for hostname in given.difference(&kept) {
        execute!(tx.conn(), sql, cluster.0, hostname)?;
        release(tx, publish.tenant_id, hostname, at).await?;
    }
    Ok(())
}

/// Like [`replace_claims`], for a publish that has none yet.
pub async fn insert_claims(
    tx: &mut Tx,
    publish: &ProductPublish,
    claims: &[Claim],
    at: ClaimTime,
) -> Result<()> {
    hold(tx, &claims.iter().map(|it| it.hostname.as_str()).collect()).await?;
    insert_all(tx, publish, claims, at).await
}

async fn insert_all(
    tx: &mut Tx,
    publish: &ProductPublish,
    claims: &[Claim],
    at: ClaimTime,
) -> Result<()> {
    let hostnames: BTreeSet<&str> = claims.iter().map(|it| it.hostname.as_str()).collect();
    for hostname in hostnames {
        take(tx, publish.tenant_id, hostname, at.now).await?;
    }
    for claim in claims {
        insert(tx, publish, claim).await?;
    }
    Ok(())
}

/// Assigns the host to the tenant, in every cluster.
async fn take(tx: &mut Tx, tenant: TenantId, hostname: &str, now: DateTime<Utc>) -> Result<()> {
    let sql = "INSERT INTO hostname_holders (hostname, tenant_id, free_at) \
        VALUES ($1, $2, NULL) ON CONFLICT (hostname) \
        DO UPDATE SET tenant_id = excluded.tenant_id, free_at = NULL \
        WHERE hostname_holders.tenant_id = excluded.tenant_id OR hostname_holders.free_at <= $3";
    tx.will_judge();
    later!(tx.conn(), assigned, sql, hostname, tenant.0, micros(now))
}

fn assigned(done: Result<u64>) -> Result<()> {
    match done? {
        0 => Err(StoreError::Taken { field: "hostnames" }),
        _ => Ok(()),
    }
}

/// Reserves the host for its former tenant for a while, unless it is still claimed elsewhere.
async fn release(tx: &mut Tx, tenant: TenantId, hostname: &str, at: ClaimTime) -> Result<()> {
    let sql = "UPDATE hostname_holders SET free_at = $3 WHERE hostname = $1 AND tenant_id = $2 \
        AND NOT EXISTS (SELECT 1 FROM product_publish_claims WHERE hostname = $1)";
    execute!(tx.conn(), sql, hostname, tenant.0, micros(at.now + at.cooldown)).map(drop)
}

async fn insert(tx: &mut Tx, publish: &ProductPublish, claim: &Claim) -> Result<()> {
    let (cluster, tenant) = (publish.spec.cluster_id.0, publish.tenant_id.0);
    let sql = "INSERT INTO hostname_owners (cluster_id, hostname, tenant_id) VALUES ($1, $2, $3) \
        ON CONFLICT (cluster_id, hostname) DO NOTHING";
    later!(tx.conn(), any, sql, cluster, &claim.hostname, tenant)?;
    let sql = "INSERT INTO product_publish_claims \
        (cluster_id, hostname, base_path, product_publish_id, tenant_id, gateway_id) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let (host, path, id) = (&claim.hostname, &claim.base_path, publish.id.0);
    later!(tx.conn(), claimed, sql, cluster, host, path, id, tenant, claim.gateway_id.0)
}

fn claimed(done: Result<u64>) -> Result<()> {
    let taken = StoreError::Taken { field: "hostnames" };
    match done {
        Ok(_) => Ok(()),
        // Another publish's base path, or another tenant's host.
        Err(StoreError::Taken { .. }) => Err(taken),
        Err(error) => match foreign_key(&error) {
            Some((_, "product_publish_id")) => {
                Err(StoreError::MissingReference { field: "product_publish_id" })
            }
            Some(_) => Err(taken),
            None => Err(error),
        },
    }
}

/// The claims of other gateways on this gateway's hosts in a cluster.
pub async fn beside_gateway(
    tx: &mut Tx,
    gateway: GatewayId,
    cluster: ClusterId,
) -> Result<Vec<Claim>> {
    let sql = "SELECT DISTINCT c.product_publish_id, c.tenant_id, p.gateway_id, c.hostname, \
            c.base_path \
        FROM product_publishes mine \
        JOIN product_publish_claims own ON own.product_publish_id = mine.id \
        JOIN product_publish_claims c \
            ON c.hostname = own.hostname AND c.cluster_id = own.cluster_id \
        JOIN product_publishes p ON p.id = c.product_publish_id \
        WHERE mine.cluster_id = $1 AND mine.gateway_id = $2 AND p.gateway_id <> $2 \
        ORDER BY c.hostname, c.base_path, c.product_publish_id";
    let rows = fetch!(tx.conn(), "product_publish_claims", Row, sql, cluster.0, gateway.0)?;
    Ok(rows.into_iter().map(Claim::from).collect())
}

/// The hostnames of a gateway's publishes, in any cluster.
pub async fn hostnames_of_gateway(tx: &mut Tx, gateway: GatewayId) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT c.hostname FROM product_publish_claims c \
        JOIN product_publishes p ON p.id = c.product_publish_id \
        WHERE p.gateway_id = $1 ORDER BY c.hostname";
    let rows = fetch!(tx.conn(), "product_publish_claims", (String,), sql, gateway.0)?;
    Ok(rows.into_iter().map(|(hostname,)| hostname).collect())
}

/// Locks these hosts in all clusters until the transaction ends. An unclaimed host has no row to
/// lock, and two gateways may conflict without the same claim, so neither row locks nor a unique
/// index suffice.
async fn hold(tx: &mut Tx, hostnames: &BTreeSet<&str>) -> Result<()> {
    for hostname in hostnames {
        lock::alone(tx, &format!("host {hostname}")).await?;
    }
    Ok(())
}
