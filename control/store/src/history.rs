//! Table `history`: identifies the database, and tells whether an earlier observation is still part
//! of its history.
//!
//! A restored backup is the same database at an earlier time. Credentials revoked since are valid
//! in it, so agents that have seen more must be able to detect it. Every outbox row has a number
//! and a random mark; a reader that kept one can check whether it still exists.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Result, Store, Tx};

/// A point in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The id of the database.
    pub database: Uuid,
    /// Incremented when the operator accepts the history from here on, whatever was seen before.
    pub epoch: i64,
    /// The number of an outbox row; 0 before the first.
    pub position: i64,
    /// The mark of that row.
    pub mark: i64,
}

/// `DATABASE EPOCH POSITION MARK`.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, epoch, position, mark } = self;
        write!(f, "{database} {epoch} {position} {mark}")
    }
}

/// The text is not a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPoint;

impl FromStr for Point {
    type Err = NoPoint;

    fn from_str(text: &str) -> std::result::Result<Self, NoPoint> {
        let mut words = text.split(' ');
        let database = words.next().and_then(|word| word.parse().ok()).ok_or(NoPoint)?;
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(NoPoint);
        let point = Self { database, epoch: number()?, position: number()?, mark: number()? };
        if words.next().is_some() { Err(NoPoint) } else { Ok(point) }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    database_id: Uuid,
    epoch: i64,
    position: i64,
    mark: i64,
}

/// The current point, once it is durable: agents remember it.
pub async fn now(store: &Store) -> Result<Option<Point>> {
    let sql = "SELECT h.database_id, h.epoch, COALESCE(o.seq, 0) AS position, \
        COALESCE(o.mark, 0) AS mark FROM history h \
        LEFT JOIN outbox o ON o.seq = (SELECT MAX(seq) FROM outbox) WHERE h.id = 1";
    let rows = fetch!(store.read().await?.conn(), "history", Row, sql)?;
    store.settled().await?;
    let point = |row: Row| Point {
        database: row.database_id,
        epoch: row.epoch,
        position: row.position,
        mark: row.mark,
    };
    Ok(rows.into_iter().next().map(point))
}

/// Whether the point is in this database's history, as far as it is still known. It is not if the
/// database was restored to an earlier time, or is another one.
pub async fn includes(store: &Store, seen: &Point) -> Result<bool> {
    let Some(now) = now(store).await? else { return Ok(true) };
    if seen.database != now.database || seen.epoch > now.epoch {
        return Ok(false);
    }
    // The operator has accepted this history, or nothing had been seen.
    if seen.epoch < now.epoch || seen.position == 0 {
        return Ok(true);
    }
    if seen.position > now.position {
        return Ok(false);
    }
    let sql = "SELECT seq, mark FROM outbox WHERE seq <= $1 ORDER BY seq DESC LIMIT 1";
    let rows = fetch!(store.read().await?.conn(), "outbox", (i64, i64), sql, seen.position)?;
    // No row with so low a number: it was pruned, so it is part of the history.
    Ok(rows.first().is_none_or(|row| *row == (seen.position, seen.mark)))
}

/// Accepts this history, whatever agents have seen before. Returns the new epoch.
pub async fn accept(tx: &mut Tx, at_least: i64) -> Result<i64> {
    // At least a timestamp, so that a backup that is restored twice gets two epochs.
    let sql = "UPDATE history SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch + 1 END \
        WHERE id = 1";
    execute!(tx.conn(), sql, at_least)?;
    let rows = fetch!(tx.conn(), "history", (i64,), "SELECT epoch FROM history WHERE id = 1")?;
    Ok(rows.first().map_or(0, |(epoch,)| *epoch))
}

/// The id of this database, for the audit trail.
pub async fn database(store: &Store) -> Result<Uuid> {
    Ok(now(store).await?.map_or(Uuid::nil(), |point| point.database))
}
