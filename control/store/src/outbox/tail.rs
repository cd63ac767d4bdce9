//! Follows the outbox without losing a row.
//!
//! On SQLite rows appear in the order of their numbers. On PostgreSQL a transaction takes its
//! number when it writes and the row appears when it commits, so 8 may be seen before 7. A missing
//! number below one that was seen is a *gap*: it is queried repeatedly until it appears, or until
//! every transaction that could hold it has ended ([`Writers`]).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cause::Cause;
use crate::db::{Conn, Held};
use crate::outbox::{Subject, Writers};
use crate::{Result, Store};

/// Rows per read.
const BATCH: i64 = 1_000;

/// Longer than any of our transactions: statements end after 30 s, idle transactions after 60.
/// Somebody else's transaction of hours must not make gaps pile up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The position of a follower.
#[derive(Clone, Debug)]
pub struct Tail {
    /// The greatest number seen.
    last: i64,
    gaps: Vec<Gap>,
    /// Whether the last read ended at its limit.
    more: bool,
}

/// A range of missing numbers below one that was seen.
#[derive(Clone, Debug)]
struct Gap {
    numbers: RangeInclusive<i64>,
    noticed: Instant,
    /// The transactions that could hold the numbers; `None` until the first read after the gap was
    /// noticed.
    holders: Option<Writers>,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    kind: String,
    subject: Uuid,
    at: DateTime<Utc>,
    request_id: String,
    traceparent: String,
}

/// A subject with its last cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub subject: Subject,
    pub cause: Cause,
    /// The time of the change, by the database's clock.
    pub at: DateTime<Utc>,
}

impl Tail {
    /// Begins at the head. What is committed by now is skipped; open transactions will be seen,
    /// even with a lower number.
    pub async fn at_head(store: &Store) -> Result<Self> {
        let mut held = store.read().await?;
        let head = "SELECT COALESCE(MAX(seq), 0) FROM outbox";
        if let Conn::Sqlite(_) = held.conn() {
            let rows = fetch!(held.conn(), "outbox", (i64,), head)?;
            return Ok(Self::behind(rows.first().map_or(0, |(last,)| *last)));
        }
        // Numbers held by open transactions are above every row older than the oldest of them.
        let floor = "SELECT COALESCE(MAX(seq), 0) FROM outbox \
            WHERE at < clock_timestamp() - make_interval(secs => $1)";
        let patience = PATIENCE.as_secs_f64();
        let floor = fetch!(held.conn(), "outbox", (i64,), floor, patience)?;
        let mut tail = Self::behind(floor.first().map_or(0, |(floor,)| *floor));
        let sql = "SELECT seq FROM outbox WHERE seq > $1 ORDER BY seq";
        for (seq,) in fetch!(held.conn(), "outbox", (i64,), sql, tail.last)? {
            tail.see(seq, Instant::now());
        }
        Ok(tail)
    }

    fn behind(last: i64) -> Self {
        Self { last, gaps: Vec::new(), more: false }
    }

    /// Whether the last read hit its limit. If not, new rows wake the follower.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Returns the subjects since the last read, in order and without duplicates, up to a limit. A
    /// subject may come again later although nothing new was appended.
    pub async fn next(&mut self, store: &Store) -> Result<Vec<Told>> {
        // Committed only after everything was read, so that a failed read is repeated.
        let mut ahead = self.clone();
        let mut held = store.read().await?;
        let mut rows = ahead.late(&mut held).await?;
        let sql = "SELECT seq, kind, subject, at, request_id, traceparent FROM outbox \
            WHERE seq > $1 ORDER BY seq LIMIT CAST($2 AS BIGINT)";
        let new = fetch!(held.conn(), "outbox", Row, sql, ahead.last, BATCH)?;
        let (now, sqlite) = (Instant::now(), matches!(held, Held::Sqlite(..)));
        for row in &new {
            if sqlite {
                ahead.last = row.seq;
            } else {
                ahead.see(row.seq, now);
            }
        }
        ahead.more = new.len() as i64 >= BATCH;
        rows.extend(new);
        *self = ahead;
        Ok(told(rows))
    }

    /// Returns rows of gaps that have appeared, and shrinks the gaps.
    async fn late(&mut self, held: &mut Held) -> Result<Vec<Row>> {
        if self.gaps.is_empty() {
            return Ok(Vec::new());
        }
        // Before reading the rows: what has ended by now is visible to the next statement.
        let writers = Writers::of(held, "outbox").await?;
        let (first, last): (Vec<i64>, Vec<i64>) =
            self.gaps.iter().map(|gap| (*gap.numbers.start(), *gap.numbers.end())).unzip();
        let Held::Pg(conn) = held else { return Ok(Vec::new()) };
        let sql = "SELECT o.seq, o.kind, o.subject, o.at, o.request_id, o.traceparent \
            FROM unnest($1::bigint[], $2::bigint[]) AS g (first, last) JOIN outbox o ON o.seq BETWEEN g.first AND g.last ORDER BY o.seq";
        let rows: Vec<Row> =
            sqlx::query_as(sql).bind(first).bind(last).fetch_all(&mut **conn).await?;
        for row in &rows {
            self.fill(row.seq);
        }
        self.gaps.retain_mut(|gap| {
            let holders = gap.holders.get_or_insert_with(|| writers.clone());
            holders.any_in(&writers) && gap.noticed.elapsed() < PATIENCE
        });
        Ok(rows)
    }

    /// Records a row above everything seen; numbers in between become a gap.
    fn see(&mut self, seq: i64, now: Instant) {
        if seq > self.last + 1 {
            self.gaps.push(Gap { numbers: self.last + 1..=seq - 1, noticed: now, holders: None });
        }
        self.last = seq;
    }

    /// Removes a number from its gap, which may split it in two.
    fn fill(&mut self, seq: i64) {
        let Some(at) = self.gaps.iter().position(|gap| gap.numbers.contains(&seq)) else { return };
        let Gap { numbers, noticed, holders } = self.gaps.swap_remove(at);
        let (start, end) = numbers.into_inner();
        let left = [start..=seq - 1, seq + 1..=end];
        let left = left.into_iter().filter(|numbers| !numbers.is_empty());
        self.gaps.extend(left.map(|numbers| Gap { numbers, noticed, holders: holders.clone() }));
    }
}

/// Each subject once, in the order of first appearance, with its last cause.
fn told(rows: Vec<Row>) -> Vec<Told> {
    let mut places = HashMap::new();
    let mut told: Vec<Told> = Vec::new();
    for Row { seq, kind, subject, at, request_id, traceparent } in rows {
        let Some(subject) = Subject::read(&kind, subject) else {
            tracing::warn!(seq, kind, "passed over: written by a newer release");
            continue;
        };
        let place = *places.entry(subject).or_insert(told.len());
        let cause = Cause { request_id, traceparent };
        match told.get_mut(place) {
            Some(known) => (known.cause, known.at) = (cause, at),
            None => told.push(Told { subject, cause, at }),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(tail: &Tail) -> Vec<i64> {
        let mut numbers: Vec<i64> = tail.gaps.iter().flat_map(|gap| gap.numbers.clone()).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_a_number_leaves_out_is_missing_until_it_appears() {
        let mut tail = Tail::behind(3);
        for seq in [4, 9, 10, 12] {
            tail.see(seq, Instant::now());
        }
        assert_eq!(missing(&tail), [5, 6, 7, 8, 11]);
        for seq in [6, 8, 11] {
            tail.fill(seq);
        }
        assert_eq!(missing(&tail), [5, 7]);
        tail.fill(5);
        tail.fill(7);
        assert!(tail.gaps.is_empty());
        assert_eq!(tail.last, 12);
    }
}
