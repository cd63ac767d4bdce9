//! Table `audit`: who did what to which object. Written in the transaction of the deed, never
//! changed, and without foreign keys: it outlives what it tells of.

use chrono::{DateTime, Utc};
use imp_core::{ApiTokenId, TenantId};
use uuid::Uuid;

use crate::table::micros;
use crate::{Result, Store, Tx};

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: DateTime<Utc>,
    /// Whose token.
    pub token_id: ApiTokenId,
    /// In which tenant; None for what the platform owns.
    pub tenant_id: Option<TenantId>,
    /// As in the OpenAPI document: `plans.create`.
    pub operation: String,
    /// To what.
    pub object_id: Uuid,
}

#[derive(sqlx::FromRow)]
struct Row {
    at: DateTime<Utc>,
    token_id: Uuid,
    tenant_id: Option<Uuid>,
    operation: String,
    object_id: Uuid,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        Self {
            at: row.at,
            token_id: row.token_id.into(),
            tenant_id: row.tenant_id.map(Into::into),
            operation: row.operation,
            object_id: row.object_id,
        }
    }
}

/// Adds it.
pub async fn append(tx: &mut Tx, entry: &Entry) -> Result<()> {
    let Entry { at, token_id, tenant_id, operation, object_id } = entry;
    let sql = "INSERT INTO audit (at, token_id, tenant_id, operation, object_id) \
        VALUES ($1, $2, $3, $4, $5)";
    let tenant = tenant_id.map(Uuid::from);
    execute!(tx.conn(), sql, micros(*at), token_id.0, tenant, operation, *object_id).map(drop)
}

/// What was done to an object, first deed first; also after the object is gone.
pub async fn of_object(store: &Store, id: impl Into<Uuid>) -> Result<Vec<Entry>> {
    let sql = "SELECT at, token_id, tenant_id, operation, object_id FROM audit \
        WHERE object_id = $1 ORDER BY seq";
    let id: Uuid = id.into();
    let rows = fetch!(store.read().await?.conn(), "audit", Row, sql, id)?;
    Ok(rows.into_iter().map(Into::into).collect())
}
