//! Transactions.
//!
//! On SQLite this module begins and ends transactions itself instead of using the driver. SQLite
//! rolls back by itself when the disk is full or fails; the driver's ROLLBACK then fails, its count
//! of open transactions never returns to zero, and the single writing connection would refuse
//! everything until a restart. Here a connection whose COMMIT or ROLLBACK failed is closed, and the
//! next writer gets a new one.

use std::collections::HashSet;
use std::time::Instant;

use sqlx::Postgres;

use crate::batch::{Soon, SqliteConn, Waiting};
use crate::cause::Cause;
use crate::db::{Conn, Db, Writer};
use crate::kept::Lent;
use crate::measure::measure;
use crate::{Result, Store};

/// A transaction. Its changes are invisible before [`Tx::commit`]; dropping it rolls back.
pub struct Tx {
    open: Open,
    store: Store,
    /// Whether it wrote to the outbox.
    tells: bool,
    cause: Cause,
    /// Whether it wrote a job.
    wakes_workers: bool,
    durability: Durability,
    /// The locks on names that it took, each with its statement.
    locks: HashSet<(&'static str, String)>,
    /// Statements that go with the next one, on SQLite.
    waiting: Waiting,
}

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// When it is on disk.
    Synced,
    /// When the operating system has it.
    Unsynced,
}

enum Open {
    Sqlite(SqliteTx),
    Pg(sqlx::Transaction<'static, Postgres>),
}

impl Store {
    /// Opens a write transaction; dropping it rolls back.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_with(Durability::Synced).await
    }

    /// Opens a write transaction for data that will be sent again after a crash of this machine: on
    /// SQLite, its commit does not wait for the disk. If the process is killed nothing is lost; on
    /// a power failure the last moments may be, but never part of a transaction. PostgreSQL may
    /// crash while this process lives, so there the commit waits.
    pub async fn begin_unsynced(&self) -> Result<Tx> {
        self.begin_with(Durability::Unsynced).await
    }

    async fn begin_with(&self, durability: Durability) -> Result<Tx> {
        let started = Instant::now();
        let (open, waiting) = match self.db() {
            Db::Sqlite { write, file, writer, .. } => {
                // Nothing may be written to a file that was moved or deleted.
                file.check()?;
                writer.wal.refuse_doubt().await?;
                let connection = write.acquire().await;
                let connection =
                    connection.map_err(|error| file.check().err().unwrap_or(error.into()))?;
                let tx = SqliteTx { connection, writer: writer.clone() };
                (Open::Sqlite(tx), Waiting::begin(&writer.unfinished))
            }
            Db::Pg(pools) => (Open::Pg(self.own(pools).begin().await?), Waiting::default()),
        };
        measure("begin", started);
        Ok(Tx {
            open,
            store: self.clone(),
            tells: false,
            wakes_workers: false,
            durability,
            locks: HashSet::new(),
            waiting,
            cause: Cause::default(),
        })
    }

    /// Writes and commits one small row, to check that writes reach the disk.
    pub async fn probe(&self, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO probes (id, at) VALUES (1, $1) \
            ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at";
        execute!(tx.conn(), sql, now)?;
        tx.commit().await
    }
}

impl Tx {
    /// Commits, then wakes followers of the outbox. The order matters: a NOTIFY inside the
    /// transaction takes a lock that all committing writers share.
    pub async fn commit(self) -> Result<()> {
        self.commit_and_drop(()).await
    }

    /// Commits, and drops `turn` as soon as another transaction could begin: on SQLite before the
    /// commit is durable.
    pub async fn commit_and_drop<T>(self, turn: T) -> Result<()> {
        let Self { open, store, tells, wakes_workers, durability, waiting, .. } = self;
        let started = Instant::now();
        let commit = match open {
            Open::Sqlite(tx) if durability == Durability::Synced => Some(tx.commit(waiting).await?),
            Open::Sqlite(tx) => {
                tx.end("COMMIT", waiting).await?;
                None
            }
            Open::Pg(tx) => {
                tx.commit().await?;
                None
            }
        };
        drop(turn);
        measure("commit", started);
        // They read and compute during the sync, and wait for its end.
        if tells {
            store.tell();
        }
        if wakes_workers {
            store.wake_workers();
        }
        match (store.db(), commit) {
            (Db::Sqlite { writer, .. }, Some(commit)) => writer.wal.durable(commit).await,
            _ => Ok(()),
        }
    }

    /// Rolls back.
    pub async fn rollback(self) -> Result<()> {
        match self.open {
            Open::Sqlite(_) if !self.waiting.has_begun() => Ok(()),
            Open::Sqlite(tx) => tx.end("ROLLBACK", Waiting::default()).await,
            Open::Pg(tx) => Ok(tx.rollback().await?),
        }
    }

    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match &mut self.open {
            Open::Sqlite(tx) => Conn::Sqlite(SqliteConn {
                connection: tx.connection.connection(),
                waiting: &mut self.waiting,
            }),
            Open::Pg(tx) => Conn::Pg(tx),
        }
    }

    /// Sets the cause of the outbox rows written from now on.
    pub fn caused_by(&mut self, cause: Cause) {
        self.cause = cause;
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether no other transaction writes before this one ends, so that what was read stays true
    /// without locks: on SQLite.
    pub fn is_alone(&self) -> bool {
        matches!(self.open, Open::Sqlite(_))
    }

    /// Whether the lock still has to be taken. It is recorded as taken.
    pub(crate) fn is_new_lock(&mut self, sql: &'static str, key: &str) -> bool {
        !self.is_alone() && self.locks.insert((sql, key.to_owned()))
    }

    /// Has the COMMIT wait for the judgement of a statement that goes with a later one.
    pub(crate) fn will_judge(&mut self) {
        self.waiting.judged = true;
    }

    /// The answer, once it has been read.
    pub async fn now<T>(&mut self, soon: Soon<T>) -> Result<T> {
        self.conn().now(soon).await
    }

    /// All answers, in order.
    pub async fn all<T>(&mut self, soon: Vec<Soon<T>>) -> Result<Vec<T>> {
        let mut answers = Vec::with_capacity(soon.len());
        for one in soon {
            answers.push(self.now(one).await?);
        }
        Ok(answers)
    }

    pub(crate) fn will_tell(&mut self) {
        self.tells = true;
    }

    pub(crate) fn will_wake_workers(&mut self) {
        self.wakes_workers = true;
    }
}

struct SqliteTx {
    connection: Lent,
    writer: Writer,
}

/// One that has begun and not ended is rolled back before the connection is lent again.
impl Drop for SqliteTx {
    fn drop(&mut self) {
        if self.writer.unfinished.is() {
            self.connection.doubt();
        }
    }
}

impl SqliteTx {
    /// Returns the number of the commit, which is not durable yet.
    async fn commit(self, waiting: Waiting) -> Result<u64> {
        let wal = self.writer.wal.clone();
        let commit = wal.begin_commit();
        let done = self.end("COMMIT", waiting).await;
        wal.end_commit(commit);
        done.map(|()| commit)
    }

    async fn end(mut self, statement: &'static str, mut waiting: Waiting) -> Result<()> {
        let done = async {
            let (connection, waiting) = (self.connection.connection(), &mut waiting);
            if waiting.judged {
                SqliteConn { connection: &mut *connection, waiting: &mut *waiting }.alone().await?;
            }
            SqliteConn { connection, waiting }.statement(statement).answer().await
        };
        match done.await {
            Ok(_) => {
                self.writer.unfinished.set(false);
                Ok(())
            }
            Err(error) => {
                self.connection.close_on_drop();
                self.writer.unfinished.set(false);
                Err(error)
            }
        }
    }
}
