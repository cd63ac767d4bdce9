//! Table `jobs`: work with a due time, done by the first control plane that takes it.
//!
//! A job is inserted in the transaction of its cause, so both are committed or neither. A row is
//! pending work; finished jobs are deleted. A worker takes a lease on a job and renews it while it
//! works. When a worker dies, its lease expires and another worker takes the job. A job therefore
//! runs at least once; if its effect must happen exactly once, it calls [`confirm`] in the
//! transaction of the effect, or ends there with [`finish`].
//!
//! Leases use the database's clock, which all replicas share. Due times use the caller's clock, as
//! their causes do.

mod lease;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::db::Conn;
use crate::table::micros;
use crate::{Result, Store, Tx};

pub use lease::{confirm, fail, finish, release, renew, repeat, take};

const TABLE: &str = "jobs";

/// A job to be inserted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub kind: &'static str,
    /// At most one job of a kind and key waits at a time.
    pub key: String,
    /// The job's arguments. Small; never a secret.
    pub payload: Value,
    /// The earliest time to run.
    pub due_at: DateTime<Utc>,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
}

/// A pending or running job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Also its `request_id` in audit rows and traces.
    pub id: Uuid,
    pub kind: String,
    /// Unique within its kind.
    pub key: String,
    /// The job's arguments.
    pub payload: Value,
    /// When it is due; failures postpone it.
    pub due_at: DateTime<Utc>,
    /// How often it was begun since its last success.
    pub attempts: i64,
    /// The error of the last attempt; empty if there was none.
    pub last_error: String,
    /// The current lease, if any.
    pub holder: Option<Uuid>,
    /// Changes whenever the job is requested again.
    pub revision: i64,
    /// When it was first requested.
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    kind: String,
    dedupe_key: String,
    payload: Json<Value>,
    due_at: DateTime<Utc>,
    attempts: i64,
    last_error: String,
    lease_holder: Option<Uuid>,
    revision: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            key: row.dedupe_key,
            payload: row.payload.0,
            due_at: row.due_at,
            attempts: row.attempts,
            last_error: row.last_error,
            holder: row.lease_holder,
            revision: row.revision,
            created_at: row.created_at,
        }
    }
}

macro_rules! columns {
    () => {
        "id, kind, dedupe_key, payload, due_at, attempts, last_error, lease_holder, revision, created_at"
    };
}
pub(crate) use columns;

/// Requests a job. If one of its kind and key waits, it becomes due at the earlier of both times
/// and gets the new payload; if it is running, it runs again afterwards.
pub async fn schedule(tx: &mut Tx, job: &NewJob) -> Result<()> {
    let sql = "INSERT INTO jobs (id, kind, dedupe_key, payload, due_at, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, dedupe_key) DO UPDATE SET \
        payload = excluded.payload, revision = jobs.revision + 1, due_at = \
        CASE WHEN excluded.due_at < jobs.due_at THEN excluded.due_at ELSE jobs.due_at END";
    insert(tx, sql, job).await.map(drop)
}

/// Requests a job unless one of its kind and key exists. Returns whether it was inserted.
pub async fn seed(tx: &mut Tx, job: &NewJob) -> Result<bool> {
    let sql = "INSERT INTO jobs (id, kind, dedupe_key, payload, due_at, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, dedupe_key) DO NOTHING";
    Ok(insert(tx, sql, job).await? > 0)
}

async fn insert(tx: &mut Tx, sql: &'static str, job: &NewJob) -> Result<u64> {
    let NewJob { kind, key, payload, due_at, created_at } = job;
    let (id, due, now) = (Uuid::now_v7(), micros(*due_at), micros(*created_at));
    let rows = execute!(tx.conn(), sql, id, *kind, key, Json(payload), due, now)?;
    tx.will_wake_workers();
    Ok(rows)
}

/// The jobs of a kind, ordered by due time.
pub async fn list(store: &Store, kind: &str) -> Result<Vec<Job>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM jobs WHERE kind = $1 ORDER BY due_at, id LIMIT 1000");
    let rows = fetch!(store.read().await?.conn(), TABLE, Row, sql, kind)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// When the first job of these kinds without a lease is due.
pub async fn next_due(store: &Store, kinds: &[&str]) -> Result<Option<DateTime<Utc>>> {
    let mut held = store.read().await?;
    let clock = lease::database_time(held.conn()).await?;
    let start = "SELECT due_at FROM jobs WHERE (lease_until IS NULL OR lease_until <= ";
    let first: Option<(DateTime<Utc>,)> = match held.conn() {
        Conn::Sqlite(conn) => {
            let conn = conn.alone().await?;
            let mut query = QueryBuilder::<sqlx::Sqlite>::new(start);
            query.push_bind(micros(clock));
            of_kinds(&mut query, kinds);
            query.push(" ORDER BY due_at, id LIMIT 1");
            query.build_query_as().fetch_optional(conn).await?
        }
        Conn::Pg(conn) => {
            let mut query = QueryBuilder::<sqlx::Postgres>::new(start);
            query.push_bind(micros(clock));
            of_kinds(&mut query, kinds);
            query.push(" ORDER BY due_at, id LIMIT 1");
            query.build_query_as().fetch_optional(conn).await?
        }
    };
    Ok(first.map(|(due,)| due))
}

/// Appends the kinds and closes the parenthesis. Other releases' jobs are left to them.
fn of_kinds<DB: Database>(query: &mut QueryBuilder<DB>, kinds: &[&str])
where
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    query.push(") AND kind IN (");
    let mut list = query.separated(", ");
    for kind in kinds {
        list.push_bind((*kind).to_owned());
    }
    query.push(")");
}
