//! Table `audit`: who did what to which object. Rows are written in the transaction of the change,
//! never changed, and have no foreign keys, so they outlive the objects. They are also the events
//! that [`crate::event`] reads.

use chrono::{DateTime, Utc};
use imp_core::{AgentId, ApiTokenId, TenantId};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::any;
use crate::table::micros;
use crate::{Result, Store, Tx};

/// The actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A caller of the REST API, by its token.
    Token(ApiTokenId),
    /// An agent that registered or reported.
    Agent(AgentId),
    /// A job of the control plane; the operation names its kind.
    Job,
    /// The first start, or an operator's command at the control plane's machine.
    Bootstrap,
    /// The control plane itself.
    Platform,
}

impl Actor {
    fn columns(self) -> (&'static str, Option<Uuid>) {
        match self {
            Self::Token(id) => ("token", Some(id.into())),
            Self::Agent(id) => ("agent", Some(id.into())),
            Self::Job => ("job", None),
            Self::Bootstrap => ("bootstrap", None),
            Self::Platform => ("platform", None),
        }
    }

    /// Reads the actor's columns. A row of the first release has only the token; a newer release's
    /// kind of actor is read as the platform.
    fn read(kind: &str, id: Option<Uuid>, token: Uuid) -> Self {
        match (kind, id) {
            ("token", id) => Self::Token(id.unwrap_or(token).into()),
            ("agent", Some(id)) => Self::Agent(id.into()),
            ("job", _) => Self::Job,
            ("bootstrap", _) => Self::Bootstrap,
            _ => Self::Platform,
        }
    }
}

/// A row of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The time of the change.
    pub at: DateTime<Utc>,
    pub actor: Actor,
    /// The tenant of the object; `None` for objects of the platform.
    pub tenant_id: Option<TenantId>,
    /// The operation as in the OpenAPI document, `plans.create`, or a name of the same form if no
    /// caller requested it.
    pub operation: String,
    /// The id of the object; nil if it is not a single object.
    pub object_id: Uuid,
    /// Details for readers: `deploying -> active`. May be empty; never a secret.
    pub detail: String,
    /// The id of the HTTP request, as in `X-Request-Id`, or of the job, to find it in the log.
    /// Empty if neither caused it.
    pub request_id: String,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    at: DateTime<Utc>,
    token_id: Uuid,
    actor_kind: String,
    actor_id: Option<Uuid>,
    tenant_id: Option<Uuid>,
    operation: String,
    object_id: Uuid,
    detail: String,
    request_id: String,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        Self {
            at: row.at,
            actor: Actor::read(&row.actor_kind, row.actor_id, row.token_id),
            tenant_id: row.tenant_id.map(Into::into),
            operation: row.operation,
            object_id: row.object_id,
            detail: row.detail,
            request_id: row.request_id,
        }
    }
}

/// The largest payload in bytes.
const PAYLOAD_BYTES: usize = 4096;

/// The payload to store. One that is too large is dropped, because the operation must not fail for
/// it.
fn bounded(payload: &Value) -> Json<Value> {
    let bytes = payload.to_string().len();
    if bytes <= PAYLOAD_BYTES {
        return Json(payload.clone());
    }
    tracing::error!(bytes, "the payload of an event is too large and was left out");
    Json(serde_json::json!({ "left_out_bytes": bytes }))
}

/// Inserts the row.
pub async fn append(tx: &mut Tx, entry: &Entry) -> Result<()> {
    append_event(tx, entry, &serde_json::json!({})).await
}

/// Inserts the row with a payload for readers of events, which must be small and must not contain a
/// secret.
pub async fn append_event(tx: &mut Tx, entry: &Entry, payload: &Value) -> Result<()> {
    let Entry { at, actor, tenant_id, operation, object_id, detail, request_id } = entry;
    let sql = "INSERT INTO audit (at, token_id, actor_kind, actor_id, tenant_id, operation, \
        object_id, detail, request_id, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let payload = bounded(payload);
    let (kind, id) = actor.columns();
    // The first release reads only this column.
    let token = if let Actor::Token(id) = actor { (*id).into() } else { Uuid::nil() };
    let tenant = tenant_id.map(Uuid::from);
    let at = micros(*at);
    let (object, request) = (*object_id, request_id);
    later!(
        tx.conn(),
        any,
        sql,
        at,
        token,
        kind,
        id,
        tenant,
        operation,
        object,
        detail,
        request,
        payload
    )
}

/// The audit rows of an object, oldest first, also after it is gone.
pub async fn of_object(store: &Store, id: impl Into<Uuid>) -> Result<Vec<Entry>> {
    let sql = "SELECT at, token_id, actor_kind, actor_id, tenant_id, operation, object_id, detail, \
        request_id FROM audit WHERE object_id = $1 ORDER BY seq";
    let id: Uuid = id.into();
    let rows = fetch!(store.read().await?.conn(), "audit", Row, sql, id)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Status changes of publishes, as agents reported them. Frequent reports write many rows, so these
/// are pruned.
pub const REPORT: &str = "product_publishes.report";

/// What agents say of publishes beside their status: another way of delivery, drift. Pruned, too.
pub const CONDITION: &str = "product_publishes.condition";

/// Renewals of agents' identities. Each agent renews every 40 minutes, so these rows are pruned,
/// too.
pub const RENEWAL: &str = "agents.renew";

/// Deletes reports, conditions and renewals older than this that all readers of events have passed. Returns how
/// many.
pub async fn prune_reports(tx: &mut Tx, older_than: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM audit WHERE at < $1 AND operation IN ($2, $3, $4) \
        AND NOT EXISTS (SELECT 1 FROM event_cursors c WHERE c.seq < audit.seq)";
    execute!(tx.conn(), sql, micros(older_than), REPORT, RENEWAL, CONDITION)
}
