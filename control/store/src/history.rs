//! Table `history`: which database this is, and whether what somebody has seen of it still happened.
//!
//! A backup that is restored is the same database at an earlier time. What was revoked since is not
//! revoked in it, so an agent that has seen more must be able to tell. Every row of the outbox has a number
//! and a mark that was drawn for it; who remembers one of them can ask whether it is still there.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Result, Store, Tx};

/// A point in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which database.
    pub database: Uuid,
    /// Raised when a person says that its history goes on from here, whatever was seen before.
    pub epoch: i64,
    /// The number of an outbox row; 0: before the first.
    pub position: i64,
    /// That row's mark.
    pub mark: i64,
}

/// `DATABASE EPOCH POSITION MARK`.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, epoch, position, mark } = self;
        write!(f, "{database} {epoch} {position} {mark}")
    }
}

/// This text names no point.
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

/// Where this database is now.
pub async fn now(store: &Store) -> Result<Option<Point>> {
    let sql = "SELECT h.database_id, h.epoch, COALESCE(o.seq, 0) AS position, \
        COALESCE(o.mark, 0) AS mark FROM history h \
        LEFT JOIN outbox o ON o.seq = (SELECT MAX(seq) FROM outbox) WHERE h.id = 1";
    let rows = fetch!(store.read().await?.conn(), "history", Row, sql)?;
    let point = |row: Row| Point {
        database: row.database_id,
        epoch: row.epoch,
        position: row.position,
        mark: row.mark,
    };
    Ok(rows.into_iter().next().map(point))
}

/// Whether what was seen at that point happened in this database, as far as it still knows: it does
/// not when the database was put back to an earlier time, or is another one.
pub async fn includes(store: &Store, seen: &Point) -> Result<bool> {
    let Some(now) = now(store).await? else { return Ok(true) };
    if seen.database != now.database || seen.epoch > now.epoch {
        return Ok(false);
    }
    // A person has accepted this history, or there was nothing to see.
    if seen.epoch < now.epoch || seen.position == 0 {
        return Ok(true);
    }
    if seen.position > now.position {
        return Ok(false);
    }
    let sql = "SELECT seq, mark FROM outbox WHERE seq <= $1 ORDER BY seq DESC LIMIT 1";
    let rows = fetch!(store.read().await?.conn(), "outbox", (i64, i64), sql, seen.position)?;
    // No row so low: it was pruned, and is long true.
    Ok(rows.first().is_none_or(|row| *row == (seen.position, seen.mark)))
}

/// From now on this history counts, whatever agents have seen of another one; the new epoch.
pub async fn accept(tx: &mut Tx, at_least: i64) -> Result<i64> {
    // As large as a time, so that a backup which is restored twice gets two epochs.
    let sql = "UPDATE history SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch + 1 END \
        WHERE id = 1";
    execute!(tx.conn(), sql, at_least)?;
    let rows = fetch!(tx.conn(), "history", (i64,), "SELECT epoch FROM history WHERE id = 1")?;
    Ok(rows.first().map_or(0, |(epoch,)| *epoch))
}

/// The id of this database, for the audit.
pub async fn database(store: &Store) -> Result<Uuid> {
    Ok(now(store).await?.map_or(Uuid::nil(), |point| point.database))
}
