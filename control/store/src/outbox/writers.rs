//! Which transactions may still write to a table of PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;

use crate::Result;
use crate::db::Held;

/// The transactions that have begun to write to a table and have not ended.
///
/// Ids of transactions would not tell: an id is taken before a number or after it, and a snapshot
/// ends at the id after the last one that was *completed*, so a transaction above it may be open and
/// hold a lower number. A lock on the table is taken before the first number, and is released when
/// the rows are visible.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writers(Arc<HashSet<String>>);

impl Writers {
    /// Those that write to this table now.
    pub(crate) async fn of(held: &mut Held, table: &str) -> Result<Self> {
        let Held::Pg(conn) = held else { return Ok(Self::default()) };
        let sql = "SELECT DISTINCT virtualtransaction FROM pg_locks \
            WHERE locktype = 'relation' AND relation = to_regclass($1) AND granted \
            AND mode = 'RowExclusiveLock' \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let rows = sqlx::query_scalar(sql).bind(table).fetch_all(&mut **conn).await?;
        Ok(Self(Arc::new(rows.into_iter().collect())))
    }

    /// Whether one of them is among `now`.
    pub(crate) fn any_in(&self, now: &Self) -> bool {
        !self.0.is_disjoint(&now.0)
    }
}
