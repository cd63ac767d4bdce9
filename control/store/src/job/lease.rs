//! Leases: taking, renewing and ending a job.
//!
//! Each lease has an id of its own, the holder. A worker that was too slow finds another holder on
//! its job, even if that is a task of the same process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{Job, Row, TABLE, columns, of_kinds};
use crate::db::Conn;
use crate::sql::decode;
use crate::table::micros;
use crate::{Result, Store, StoreError, Tx};

/// Errors are truncated to this length.
const ERROR_CHARACTERS: usize = 1000;

/// Takes the job of these kinds that has been due the longest. Returns `None` if none is due or all
/// are leased.
pub async fn take(
    store: &Store,
    kinds: &[&str],
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<Option<Job>> {
    // A power failure that loses the lease also ends the worker.
    let mut tx = store.begin_unsynced().await?;
    let clock = database_time(tx.conn()).await?;
    let holder = Uuid::new_v4();
    let (from, until) = (micros(clock), ends(clock, lease));
    // One statement per database: only PostgreSQL has concurrent writers.
    let row: Option<Row> = match tx.conn() {
        Conn::Sqlite(conn) => {
            let conn = conn.alone().await?;
            let mut query = QueryBuilder::<sqlx::Sqlite>::new("UPDATE jobs SET lease_holder = ");
            query.push_bind(holder).push(", lease_until = ").push_bind(until).push(CANDIDATE);
            query.push_bind(micros(now)).push(FREE).push_bind(from);
            of_kinds(&mut query, kinds);
            query.push(" ORDER BY due_at, id LIMIT 1) RETURNING ").push(columns!());
            let row = query.build().fetch_optional(conn).await?;
            row.as_ref().map(|row| decode(TABLE, row)).transpose()?
        }
        Conn::Pg(conn) => {
            let mut query = QueryBuilder::<sqlx::Postgres>::new("UPDATE jobs SET lease_holder = ");
            query.push_bind(holder).push(", lease_until = ").push_bind(until).push(CANDIDATE);
            query.push_bind(micros(now)).push(FREE).push_bind(from);
            of_kinds(&mut query, kinds);
            query.push(" ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING ");
            let row = query.push(columns!()).build().fetch_optional(conn).await?;
            row.as_ref().map(|row| decode(TABLE, row)).transpose()?
        }
    };
    match row {
        Some(row) => tx.commit().await.map(|()| Some(row.into())),
        None => tx.rollback().await.map(|()| None),
    }
}

const CANDIDATE: &str =
    ", attempts = attempts + 1 WHERE id = (SELECT id FROM jobs WHERE due_at <= ";
const FREE: &str = " AND (lease_until IS NULL OR lease_until <= ";

/// Extends the lease. Returns false if another worker has the job.
pub async fn renew(store: &Store, job: &Job, lease: Duration) -> Result<bool> {
    let mut tx = store.begin_unsynced().await?;
    let until = ends(database_time(tx.conn()).await?, lease);
    let sql = "UPDATE jobs SET lease_until = $1 \
        WHERE id = $2 AND lease_holder = $3";
    let rows = execute!(tx.conn(), sql, until, job.id, job.holder)?;
    tx.commit().await?;
    Ok(rows > 0)
}

/// Checks that the job is still leased. Until the transaction ends nobody else can take it, so its
/// other changes are made by one worker only.
pub async fn confirm(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = "UPDATE jobs SET lease_holder = lease_holder \
        WHERE id = $1 AND lease_holder = $2";
    Ok(execute!(tx.conn(), sql, job.id, job.holder)? > 0)
}

/// Ends the job. If it was requested again meanwhile, it is due at once. Returns false if the lease
/// was lost.
pub async fn finish(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = "DELETE FROM jobs WHERE id = $1 AND lease_holder = $2 AND revision = $3";
    if execute!(tx.conn(), sql, job.id, job.holder, job.revision)? > 0 {
        return Ok(true);
    }
    repeat(tx, job, job.due_at).await
}

/// Ends this run; the job is due again at this time, or at once if it was requested meanwhile.
/// Returns false if the lease was lost.
pub async fn repeat(tx: &mut Tx, job: &Job, due_at: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE jobs SET lease_holder = NULL, lease_until = NULL, attempts = 0, \
        last_error = '', due_at = CASE WHEN revision = $3 THEN $4 ELSE due_at END \
        WHERE id = $1 AND lease_holder = $2";
    let due = micros(due_at);
    let rows = execute!(tx.conn(), sql, job.id, job.holder, job.revision, due)?;
    tx.will_wake_workers();
    Ok(rows > 0)
}

/// Records a failure; the job is retried at this time. Returns false if the lease was lost.
pub async fn fail(tx: &mut Tx, job: &Job, due_at: DateTime<Utc>, error: &str) -> Result<bool> {
    let sql = "UPDATE jobs SET lease_holder = NULL, lease_until = NULL, last_error = $3, \
        due_at = $4 WHERE id = $1 AND lease_holder = $2";
    // PostgreSQL cannot store NUL.
    let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARACTERS).collect();
    let due = micros(due_at);
    Ok(execute!(tx.conn(), sql, job.id, job.holder, error, due)? > 0)
}

/// Releases the job without a result, because this worker stops.
pub async fn release(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = "UPDATE jobs SET lease_holder = NULL, lease_until = NULL \
        WHERE id = $1 AND lease_holder = $2";
    Ok(execute!(tx.conn(), sql, job.id, job.holder)? > 0)
}

/// The time of the database's clock.
pub(super) async fn database_time(conn: Conn<'_>) -> Result<DateTime<Utc>> {
    let sql = match &conn {
        Conn::Sqlite(_) => "SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')",
        Conn::Pg(_) => "SELECT clock_timestamp()",
    };
    let rows = fetch!(conn, TABLE, (DateTime<Utc>,), sql)?;
    let unreadable = || StoreError::Unavailable("the database does not tell the time".to_owned());
    rows.first().map(|(time,)| *time).ok_or_else(unreadable)
}

fn ends(clock: DateTime<Utc>, lease: Duration) -> DateTime<Utc> {
    micros(
        clock
            .checked_add_signed(chrono::TimeDelta::from_std(lease).unwrap_or_default())
            .unwrap_or(clock),
    )
}
