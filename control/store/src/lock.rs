//! Locks on names and places that have no row to lock because nobody claims them yet. They last
//! until the transaction ends. On SQLite a write transaction excludes all others anyway.
//!
//! To avoid deadlocks, take several in this order: gateway, wildcards, cluster, ports, hostnames, then the
//! tenant's share of the cluster; those of one kind ordered by name.

use crate::db::Conn;
use crate::{Result, Tx};

/// Takes an exclusive lock.
pub(crate) async fn alone(tx: &mut Tx, key: &str) -> Result<()> {
    lock(tx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", key).await
}

/// Takes a shared lock.
pub(crate) async fn shared(tx: &mut Tx, key: &str) -> Result<()> {
    lock(tx, "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", key).await
}

/// Locks of a transaction last to its end, so each is asked for once.
async fn lock(tx: &mut Tx, sql: &'static str, key: &str) -> Result<()> {
    if !tx.is_new_lock(sql, key) {
        return Ok(());
    }
    if let Conn::Pg(conn) = tx.conn() {
        sqlx::query(sql).bind(key).execute(conn).await?;
    }
    Ok(())
}
