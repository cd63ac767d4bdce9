//! Reading what happened, in order and without losing anything: the rows of `audit` are the events.
//!
//! A reader has a name and a cursor in table `event_cursors`: the number of the last event that it has
//! dealt with. It moves the cursor in the transaction of what it did about the events ([`advance`]), so
//! it deals with each at least once, and with each exactly once if all that it does is in that
//! transaction. Events that a reader has not dealt with are not pruned, so one that is no longer needed
//! must be retired.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::db::Held;
use crate::outbox::{PATIENCE, horizon};
use crate::table::micros;
use crate::{Result, Store, Tx};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number. Numbers grow, and some are missing.
    pub seq: i64,
    /// Who did what to which object.
    pub entry: Entry,
    /// What a machine needs to know of it; an object, empty for most deeds. Readers pass over fields that
    /// they do not know.
    pub payload: Value,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    payload: Json<Value>,
    #[sqlx(flatten)]
    entry: audit::Row,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        Self { seq: row.seq, entry: row.entry.into(), payload: row.payload.0 }
    }
}

/// Begins to read behind this number; 0 for all that there is. A reader that is there keeps its place.
pub async fn follow(tx: &mut Tx, name: &str, after: i64, now: DateTime<Utc>) -> Result<()> {
    let sql = "INSERT INTO event_cursors (name, seq, updated_at) VALUES ($1, $2, $3) \
        ON CONFLICT (name) DO NOTHING";
    execute!(tx.conn(), sql, name, after, micros(now)).map(drop)
}

/// This reader reads no more; whether it was there.
pub async fn retire(tx: &mut Tx, name: &str) -> Result<bool> {
    Ok(execute!(tx.conn(), "DELETE FROM event_cursors WHERE name = $1", name)? > 0)
}

/// The reader has dealt with everything up to this number. False: it has been there before, or was
/// retired, so whatever else the transaction does was done already and is to be taken back.
pub async fn advance(tx: &mut Tx, name: &str, seq: i64, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE event_cursors SET seq = $2, updated_at = $3 WHERE name = $1 AND seq < $2";
    Ok(execute!(tx.conn(), sql, name, seq, micros(now))? > 0)
}

/// The cursor of a reader.
pub async fn cursor(store: &Store, name: &str) -> Result<Option<i64>> {
    let sql = "SELECT seq FROM event_cursors WHERE name = $1";
    let rows = fetch!(store.read().await?.conn(), "event_cursors", (i64,), sql, name)?;
    Ok(rows.first().map(|(seq,)| *seq))
}

/// Reads events for one reader.
///
/// On PostgreSQL a lower number may be committed after a higher one. The reader stops below a number
/// that is missing until the row appears, or until every transaction that could hold it has ended. It
/// therefore needs two looks at least to come past a number that was taken back.
#[derive(Debug)]
pub struct Reader {
    name: String,
    gap: Option<Gap>,
    /// Up to here, what is missing will not come.
    settled: i64,
}

/// Numbers were missing.
#[derive(Debug)]
struct Gap {
    /// The greatest number that was seen then.
    seen: i64,
    noticed: Instant,
    /// A transaction id that is greater than that of any transaction that could hold the numbers; None
    /// until the first look after it was noticed.
    before: Option<i64>,
}

impl Reader {
    /// Whoever follows under this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), gap: None, settled: 0 }
    }

    /// The events behind the cursor, in order, up to a limit. Empty when there are none, when those that
    /// there are wait for a transaction that is still open, or when nobody follows under this name.
    pub async fn read(&mut self, store: &Store, limit: i64) -> Result<Vec<Event>> {
        let Some(cursor) = cursor(store, &self.name).await? else { return Ok(Vec::new()) };
        let mut held = store.read().await?;
        self.settle(&mut held).await?;
        let sql = "SELECT seq, at, token_id, actor_kind, actor_id, tenant_id, operation, object_id, \
            detail, request_id, payload FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
        let mut rows = fetch!(held.conn(), "audit", Row, sql, cursor, limit)?;
        // SQLite has one writer: what is missing was pruned or taken back.
        if let Held::Pg(_) = held {
            self.cut(cursor, &mut rows);
        }
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Whether the numbers that were missing can still come.
    async fn settle(&mut self, held: &mut Held) -> Result<()> {
        let Some(gap) = &mut self.gap else { return Ok(()) };
        // Before the rows: what has ended by now is visible to the statement after.
        let (oldest, next) = horizon(held).await?;
        let before = *gap.before.get_or_insert(next);
        if oldest >= before || gap.noticed.elapsed() >= PATIENCE {
            self.settled = gap.seen;
            self.gap = None;
        }
        Ok(())
    }

    /// Leaves the rows below the first number that may still come.
    fn cut(&mut self, cursor: i64, rows: &mut Vec<Row>) {
        let Some(seen) = rows.last().map(|row| row.seq) else { return };
        let mut expected = cursor + 1;
        let gap = rows.iter().position(|row| {
            let missing = row.seq > expected && row.seq > self.settled + 1;
            expected = row.seq + 1;
            missing
        });
        let Some(at) = gap else { return };
        rows.truncate(at);
        // One that is waited for already keeps its time.
        self.gap.get_or_insert(Gap { seen, noticed: Instant::now(), before: None });
    }
}
