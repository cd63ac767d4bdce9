//! Table `audit`: who did what to which object. Written in the transaction of the deed, never
//! changed, and without foreign keys: it outlives what it tells of. The rows are the events that
//! [`crate::event`] reads.

use chrono::{DateTime, Utc};
use imp_core::{AgentId, ApiTokenId, TenantId};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use crate::table::micros;
use crate::{Result, Store, Tx};

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A caller of the REST API.
    Token(ApiTokenId),
    /// An agent, by what it registered or reported.
    Agent(AgentId),
    /// A job of the control plane. The operation says which.
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

    /// A row of the first release names its token only. A kind of a newer release is told as the
    /// platform's.
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

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: Actor,
    /// In which tenant; None for what the platform owns.
    pub tenant_id: Option<TenantId>,
    /// As in the OpenAPI document: `plans.create`; of the same form for what no caller asked for.
    pub operation: String,
    /// To what; the nil UUID when it is no single object.
    pub object_id: Uuid,
    /// What a reader would ask next: `deploying -> active`. May be empty. Never a secret.
    pub detail: String,
    /// Of the HTTP request that asked for it, as in `X-Request-Id`, or the job's id; leads to the log.
    /// Empty: neither did.
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

/// A payload has at most so many bytes.
const PAYLOAD_BYTES: usize = 4096;

/// A payload as it is stored: what is too large is left out, since the deed must not fail for it.
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

/// Inserts the row with what readers of events need to know of it: small, and never a secret.
pub async fn append_event(tx: &mut Tx, entry: &Entry, payload: &Value) -> Result<()> {
    let Entry { at, actor, tenant_id, operation, object_id, detail, request_id } = entry;
    let sql = "INSERT INTO audit (at, token_id, actor_kind, actor_id, tenant_id, operation, \
        object_id, detail, request_id, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let payload = bounded(payload);
    let (kind, id) = actor.columns();
    // The first release reads this column only.
    let token = if let Actor::Token(id) = actor { (*id).into() } else { Uuid::nil() };
    let tenant = tenant_id.map(Uuid::from);
    let at = micros(*at);
    let (object, request) = (*object_id, request_id);
    execute!(
        tx.conn(),
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
    .map(drop)
}

/// What was done to an object, first deed first; also after the object is gone.
pub async fn of_object(store: &Store, id: impl Into<Uuid>) -> Result<Vec<Entry>> {
    let sql = "SELECT at, token_id, actor_kind, actor_id, tenant_id, operation, object_id, detail, \
        request_id FROM audit WHERE object_id = $1 ORDER BY seq";
    let id: Uuid = id.into();
    let rows = fetch!(store.read().await?.conn(), "audit", Row, sql, id)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// How publishes came to their states, as agents reported it. Who reports often writes many of these,
/// so they are pruned.
pub const REPORT: &str = "product_publishes.report";

/// That an agent got a newer identity. Each does every 40 minutes, so these rows are pruned, too.
pub const RENEWAL: &str = "agents.renew";

/// Removes reports and renewals that are older and that every reader of events has dealt with; how
/// many rows.
pub async fn prune_reports(tx: &mut Tx, older_than: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM audit WHERE at < $1 AND operation IN ($2, $3) \
        AND NOT EXISTS (SELECT 1 FROM event_cursors c WHERE c.seq < audit.seq)";
    execute!(tx.conn(), sql, micros(older_than), REPORT, RENEWAL)
}
