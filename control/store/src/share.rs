//! Tenants' usage of quotas: objects of each kind (table `object_counts`), and publishes' share of
//! a cluster (table `cluster_shares`). Triggers maintain both.

use imp_core::TenantId;
use imp_core::product_publish::ProductPublish;

use crate::sql::any;
use crate::{Result, Soon, Tx};

/// The share of a cluster that publishes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterShare {
    /// Bytes as gateways store them.
    pub served_bytes: u64,
    /// The number of regular expressions.
    pub regexes: u64,
}

/// The number of the tenant's objects in this table. On PostgreSQL inserting an object locks the
/// row of the count, so the result stays valid until the transaction ends.
pub async fn objects(tx: &mut Tx, tenant: TenantId, table: &str) -> Result<Soon<u64>> {
    let sql = "SELECT objects FROM object_counts WHERE tenant_id = $1 AND kind = $2";
    let read = |rows: Vec<(i64,)>| Ok(rows.first().map_or(0, |(objects,)| objects.unsigned_abs()));
    soon!(tx.conn(), "object_counts", (i64,), read, sql, tenant.0, table)
}

/// Records what the publish takes at its desired revision. Returns the total of all the tenant's
/// publishes in its cluster, which stays valid until the transaction ends.
pub async fn take(
    tx: &mut Tx,
    publish: &ProductPublish,
    share: ClusterShare,
) -> Result<Soon<ClusterShare>> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let sql = "UPDATE product_publishes SET served_bytes = $2, regexes = $3 WHERE id = $1";
    let (bytes, regexes) = (number(share.served_bytes), number(share.regexes));
    later!(tx.conn(), any, sql, publish.id.0, bytes, regexes)?;
    let sql = "SELECT served_bytes, regexes FROM cluster_shares \
        WHERE tenant_id = $1 AND cluster_id = $2";
    let (tenant, cluster) = (publish.tenant_id.0, publish.spec.cluster_id.0);
    let share = |&(bytes, regexes): &(i64, i64)| ClusterShare {
        served_bytes: u64::try_from(bytes).unwrap_or_default(),
        regexes: u64::try_from(regexes).unwrap_or_default(),
    };
    let read = move |rows: Vec<(i64, i64)>| Ok(rows.first().map(share).unwrap_or_default());
    soon!(tx.conn(), "cluster_shares", (i64, i64), read, sql, tenant, cluster)
}

/// Sets the count, for tests.
#[cfg(feature = "testing")]
pub async fn pretend(tx: &mut Tx, tenant: TenantId, table: &str, objects: u64) -> Result<()> {
    let sql = "INSERT INTO object_counts (tenant_id, kind, objects) VALUES ($1, $2, $3) \
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = $3";
    let objects = i64::try_from(objects).unwrap_or(i64::MAX);
    execute!(tx.conn(), sql, tenant.0, table, objects).map(drop)
}
