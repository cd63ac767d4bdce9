//! Tables `product_publish_claims` and `hostname_owners`: which publish answers under which hostname
//! and base path of a cluster. A host of a cluster is one tenant's.

use std::collections::BTreeSet;

use imp_core::product_publish::ProductPublish;
use imp_core::{ClusterId, GatewayId, ProductPublishId, TenantId};
use uuid::Uuid;

use crate::error::foreign_key;
use crate::store::Conn;
use crate::{Result, StoreError, Tx};

/// A publish answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which publish.
    pub publish_id: ProductPublishId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Under which name.
    pub hostname: String,
    /// Under which path.
    pub base_path: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    product_publish_id: Uuid,
    tenant_id: Uuid,
    hostname: String,
    base_path: String,
}

impl From<Row> for Claim {
    fn from(row: Row) -> Self {
        Self {
            publish_id: row.product_publish_id.into(),
            tenant_id: row.tenant_id.into(),
            hostname: row.hostname,
            base_path: row.base_path,
        }
    }
}

/// What every tenant's publishes claim on these hosts of a cluster. Until the transaction ends
/// nobody else can ask or claim there, so the answer stays true.
pub async fn claims_on(
    tx: &mut Tx,
    cluster: ClusterId,
    hostnames: &[String],
) -> Result<Vec<Claim>> {
    let hostnames: BTreeSet<&str> = hostnames.iter().map(String::as_str).collect();
    hold(tx, cluster, &hostnames).await?;
    let sql = "SELECT product_publish_id, tenant_id, hostname, base_path \
        FROM product_publish_claims WHERE cluster_id = $1 AND hostname = $2 ORDER BY base_path";
    let mut claims = Vec::new();
    for hostname in hostnames {
        let rows = fetch!(tx.conn(), "product_publish_claims", Row, sql, cluster.0, hostname)?;
        claims.extend(rows.into_iter().map(Claim::from));
    }
    Ok(claims)
}

/// Gives up what the publish claims and claims these instead, all in its own cluster and for its own
/// tenant. What another holds is [`StoreError::Taken`].
pub async fn replace_claims(tx: &mut Tx, publish: &ProductPublish, claims: &[Claim]) -> Result<()> {
    let sql = "SELECT product_publish_id, tenant_id, hostname, base_path \
        FROM product_publish_claims WHERE product_publish_id = $1";
    let former = fetch!(tx.conn(), "product_publish_claims", Row, sql, publish.id.0)?;
    let former: Vec<Claim> = former.into_iter().map(Claim::from).collect();
    if former.len() == claims.len() && claims.iter().all(|claim| former.contains(claim)) {
        return Ok(());
    }
    let names = |claims: &[Claim]| -> BTreeSet<String> {
        claims.iter().map(|claim| claim.hostname.clone()).collect()
    };
    let (given, kept) = (names(&former), names(claims));
    let cluster = publish.spec.cluster_id;
    hold(tx, cluster, &given.union(&kept).map(String::as_str).collect()).await?;
    if !former.is_empty() {
        let sql = "DELETE FROM product_publish_claims WHERE product_publish_id = $1";
        execute!(tx.conn(), sql, publish.id.0)?;
    }
    for claim in claims {
        insert(tx, publish, claim).await?;
    }
    let sql = "DELETE FROM hostname_owners WHERE cluster_id = $1 AND hostname = $2 \
        AND NOT EXISTS (SELECT 1 FROM product_publish_claims \
            WHERE cluster_id = $1 AND hostname = $2)";
    for hostname in given.difference(&kept) {
        execute!(tx.conn(), sql, cluster.0, hostname)?;
    }
    Ok(())
}

async fn insert(tx: &mut Tx, publish: &ProductPublish, claim: &Claim) -> Result<()> {
    let (cluster, tenant) = (publish.spec.cluster_id.0, publish.tenant_id.0);
    let taken = StoreError::Taken { field: "hostnames" };
    let sql = "INSERT INTO hostname_owners (cluster_id, hostname, tenant_id) VALUES ($1, $2, $3) \
        ON CONFLICT (cluster_id, hostname) DO NOTHING";
    execute!(tx.conn(), sql, cluster, &claim.hostname, tenant)?;
    let sql = "INSERT INTO product_publish_claims \
        (cluster_id, hostname, base_path, product_publish_id, tenant_id) \
        VALUES ($1, $2, $3, $4, $5)";
    let (host, path, id) = (&claim.hostname, &claim.base_path, publish.id.0);
    match execute!(tx.conn(), sql, cluster, host, path, id, tenant) {
        Ok(_) => Ok(()),
        // Another's base path, or another tenant's host.
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

/// The names under which publishes of a gateway answer, in any cluster.
pub async fn hostnames_of_gateway(tx: &mut Tx, gateway: GatewayId) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT c.hostname FROM product_publish_claims c \
        JOIN product_publishes p ON p.id = c.product_publish_id \
        WHERE p.gateway_id = $1 ORDER BY c.hostname";
    let rows = fetch!(tx.conn(), "product_publish_claims", (String,), sql, gateway.0)?;
    Ok(rows.into_iter().map(|(hostname,)| hostname).collect())
}

/// Keeps others from asking and claiming on these hosts until the transaction ends. A host that
/// nobody claims has no row to lock, and base paths overlap without being equal, so neither a row
/// lock nor a unique index does. On SQLite a transaction for writing is alone anyway.
async fn hold(tx: &mut Tx, cluster: ClusterId, hostnames: &BTreeSet<&str>) -> Result<()> {
    let Conn::Pg(conn) = tx.conn() else { return Ok(()) };
    for hostname in hostnames {
        // In the order of names, as everyone does.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{cluster} {hostname}"))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
