//! Reads the rows of `audit` as events, in order and without loss.
//!
//! A reader has a name and a cursor in table `event_cursors`: the number of the last event that it
//! has handled. It moves the cursor in the transaction of its own changes ([`advance`]), so it
//! handles each event at least once, and exactly once if all its effects are in that transaction.
//! Unread events are not pruned, so a reader that is no longer needed must be retired.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::db::Held;
use crate::outbox::{PATIENCE, Writers};
use crate::table::micros;
use crate::{Result, Store, Tx};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The number. Numbers increase, with gaps.
    pub seq: i64,
    /// The audit row.
    pub entry: Entry,
    /// Data for programs: an object, empty for most operations. Readers must ignore unknown fields.
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

/// Registers a reader that begins after this number; 0 for everything. An existing reader keeps its
/// place.
pub async fn follow(tx: &mut Tx, name: &str, after: i64, now: DateTime<Utc>) -> Result<()> {
    let sql = "INSERT INTO event_cursors (name, seq, updated_at) VALUES ($1, $2, $3) \
        ON CONFLICT (name) DO NOTHING";
    execute!(tx.conn(), sql, name, after, micros(now)).map(drop)
}

/// Removes a reader. Returns whether it existed.
pub async fn retire(tx: &mut Tx, name: &str) -> Result<bool> {
    Ok(execute!(tx.conn(), "DELETE FROM event_cursors WHERE name = $1", name)? > 0)
}

/// Moves the reader's cursor to this number. Returns false if it was there before or the reader was
/// retired; the transaction's other changes were then made already, so it must be rolled back.
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
/// On PostgreSQL a lower number may be committed after a higher one. The reader stops below a
/// missing number until the row appears, or until every transaction that could hold it has ended.
/// It therefore needs at least two reads to pass a number that was rolled back.
#[derive(Debug)]
pub struct Reader {
    name: String,
    gap: Option<Gap>,
    /// Missing numbers up to here will not appear.
    settled: i64,
}

/// A range with missing numbers.
#[derive(Debug)]
struct Gap {
    /// The greatest number seen at that time.
    seen: i64,
    noticed: Instant,
    /// The transactions that could hold the numbers; `None` until the first read after the gap was
    /// noticed.
    holders: Option<Writers>,
}

impl Reader {
    /// A reader with this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), gap: None, settled: 0 }
    }

    /// Returns the events after the cursor, in order, up to a limit. Empty if there are none, if
    /// they wait for an open transaction, or if there is no reader of this name.
    pub async fn read(&mut self, store: &Store, limit: i64) -> Result<Vec<Event>> {
        let Some(cursor) = cursor(store, &self.name).await? else { return Ok(Vec::new()) };
        let mut held = store.read().await?;
        self.settle(&mut held).await?;
        let sql = "SELECT seq, at, token_id, actor_kind, actor_id, tenant_id, operation, object_id, \
            detail, request_id, payload FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
        let mut rows = fetch!(held.conn(), "audit", Row, sql, cursor, limit)?;
        // SQLite has a single writer: missing numbers were pruned or rolled back.
        if let Held::Pg(_) = held {
            self.cut(cursor, &mut rows);
        }
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Checks whether the missing numbers can still appear.
    async fn settle(&mut self, held: &mut Held) -> Result<()> {
        let Some(gap) = &mut self.gap else { return Ok(()) };
        // Before reading the rows: what has ended by now is visible to the next statement.
        let writers = Writers::of(held, "audit").await?;
        let holders = gap.holders.get_or_insert_with(|| writers.clone());
        if !holders.any_in(&writers) || gap.noticed.elapsed() >= PATIENCE {
            self.settled = gap.seen;
            self.gap = None;
        }
        Ok(())
    }

    /// Keeps only the rows below the first number that may still appear.
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
        // An existing gap keeps its time.
        self.gap.get_or_insert(Gap { seen, noticed: Instant::now(), holders: None });
    }
}
