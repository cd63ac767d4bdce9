//! Table `jobs`: work that is due at a time, done by whichever control plane takes it first.
//!
//! A job is asked for in the transaction of its cause: either both are committed or neither is. A row is
//! work that is still to be done; what is done is deleted. Whoever takes a job holds a lease on it, and
//! renews it while it works. When a worker dies, its lease ends and another worker takes the job. A job
//! therefore runs at least once; one whose effect must happen exactly once calls [`confirm`] in the
//! transaction of the effect, or ends the job there with [`finish`].
//!
//! Leases are judged by the clock of the database, which all replicas share. When a job is due is judged
//! by the caller's clock, which is the one that its cause was judged by.

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

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Which kind of job.
    pub kind: &'static str,
    /// One job of a kind and key waits at a time.
    pub key: String,
    /// What the job needs to know. Small, and never a secret.
    pub payload: Value,
    /// Not before this time.
    pub due_at: DateTime<Utc>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

/// A job that waits or runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Names it in audit rows and traces, as `request_id`.
    pub id: Uuid,
    /// Which kind of job.
    pub kind: String,
    /// Unique in its kind.
    pub key: String,
    /// What it was asked with.
    pub payload: Value,
    /// When it is due; moved by failures.
    pub due_at: DateTime<Utc>,
    /// How often it was begun since it succeeded last.
    pub attempts: i64,
    /// Why the last attempt failed; empty when it did not.
    pub last_error: String,
    /// The lease under which it is done, if it is.
    pub holder: Option<Uuid>,
    /// Moves whenever the job is asked for again.
    pub revision: i64,
    /// When it was asked for first.
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

/// Asks for a job. If one of its kind and key waits, that one becomes due at the earlier of both times
/// and gets the new payload; if it runs, it runs again afterwards.
pub async fn schedule(tx: &mut Tx, job: &NewJob) -> Result<()> {
    let sql = "INSERT INTO jobs (id, kind, dedupe_key, payload, due_at, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, dedupe_key) DO UPDATE SET \
        payload = excluded.payload, revision = jobs.revision + 1, due_at = \
        CASE WHEN excluded.due_at < jobs.due_at THEN excluded.due_at ELSE jobs.due_at END";
    insert(tx, sql, job).await.map(drop)
}

/// Asks for a job unless one of its kind and key is there already; whether it was asked for.
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

/// The jobs of a kind, those that are due first at the front.
pub async fn list(store: &Store, kind: &str) -> Result<Vec<Job>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM jobs WHERE kind = $1 ORDER BY due_at, id LIMIT 1000");
    let rows = fetch!(store.read().await?.conn(), TABLE, Row, sql, kind)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// When the first job of these kinds that nobody holds is due.
pub async fn next_due(store: &Store, kinds: &[&str]) -> Result<Option<DateTime<Utc>>> {
    let mut held = store.read().await?;
    let clock = lease::database_time(held.conn()).await?;
    let start = "SELECT due_at FROM jobs WHERE (lease_until IS NULL OR lease_until <= ";
    let first: Option<(DateTime<Utc>,)> = match held.conn() {
        Conn::Sqlite(conn) => {
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

/// Closes the parenthesis before it. What another release wrote is left to it.
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
