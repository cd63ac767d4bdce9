//! Locks on what has no row to lock: a name or a place that nobody claims so far. They last until
//! the transaction ends. On SQLite a transaction for writing is alone anyway.
//!
//! Whoever takes several takes them in this order: gateway, cluster, ports, hostnames,
//! then the tenant's share of the cluster; those of one kind in the order of their names. The one on a
//! customer's subscriptions is taken beside none of them.

use crate::db::Conn;
use crate::{Result, Tx};

/// Nobody else holds it, in either way.
pub(crate) async fn alone(tx: &mut Tx, key: &str) -> Result<()> {
    lock(tx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", key).await
}

/// Nobody holds it alone.
pub(crate) async fn shared(tx: &mut Tx, key: &str) -> Result<()> {
    lock(tx, "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", key).await
}

async fn lock(tx: &mut Tx, sql: &'static str, key: &str) -> Result<()> {
    if let Conn::Pg(conn) = tx.conn() {
        sqlx::query(sql).bind(key).execute(conn).await?;
    }
    Ok(())
}
