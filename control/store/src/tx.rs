//! Transactions.
//!
//! On SQLite this module begins and ends transactions itself instead of using the driver. SQLite
//! rolls back by itself when the disk is full or fails; the driver's ROLLBACK then fails, its count
//! of open transactions never returns to zero, and the single writing connection would refuse
//! everything until a restart. Here a connection whose COMMIT or ROLLBACK failed is closed, and the
//! next writer gets a new one.

use std::time::Instant;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor as _, Postgres, Sqlite, SqlitePool};

use crate::cause::Cause;
use crate::db::{Conn, Db, Unfinished};
use crate::{Result, Store, StoreError};

/// A transaction. Its changes are invisible before [`Tx::commit`]; dropping it rolls back.
pub struct Tx {
    open: Open,
    store: Store,
    /// Whether it wrote to the outbox.
    tells: bool,
    cause: Cause,
    /// Whether it wrote a job.
    wakes_workers: bool,
}

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// When it is on disk.
    Synced,
    /// When the operating system has it.
    Unsynced,
}

impl Durability {
    /// The statement that opens a transaction on SQLite with this durability. The setting belongs
    /// to the connection, so the previous transaction may have left the other one.
    fn begin(self) -> &'static str {
        match self {
            Self::Synced => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Self::Unsynced => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        }
    }
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
        let open = match self.db() {
            Db::Sqlite { write, file, unfinished, .. } => {
                // Nothing may be written to a file that was moved or deleted.
                file.check()?;
                let tx = SqliteTx::begin(write, unfinished, durability).await;
                Open::Sqlite(tx.map_err(|error| file.check().err().unwrap_or(error))?)
            }
            Db::Pg(pools) => Open::Pg(self.own(pools).begin().await?),
        };
        measure("begin", started);
        Ok(Tx {
            open,
            store: self.clone(),
            tells: false,
            wakes_workers: false,
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
        let started = Instant::now();
        match self.open {
            Open::Sqlite(tx) => tx.end("COMMIT").await?,
            Open::Pg(tx) => tx.commit().await?,
        }
        measure("commit", started);
        if self.tells {
            self.store.tell();
        }
        if self.wakes_workers {
            self.store.wake_workers();
        }
        Ok(())
    }

    /// Rolls back.
    pub async fn rollback(self) -> Result<()> {
        match self.open {
            Open::Sqlite(tx) => tx.end("ROLLBACK").await,
            Open::Pg(tx) => Ok(tx.rollback().await?),
        }
    }

    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match &mut self.open {
            Open::Sqlite(tx) => Conn::Sqlite(&mut tx.connection),
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

    pub(crate) fn will_tell(&mut self) {
        self.tells = true;
    }

    pub(crate) fn will_wake_workers(&mut self) {
        self.wakes_workers = true;
    }
}

/// Records a step's duration. `begin` includes the wait for a connection and for other writers.
fn measure(step: &'static str, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!("imp_database_seconds", "step" => step).record(seconds);
}

struct SqliteTx {
    connection: PoolConnection<Sqlite>,
    unfinished: Unfinished,
}

impl SqliteTx {
    async fn begin(
        pool: &SqlitePool,
        unfinished: &Unfinished,
        durability: Durability,
    ) -> Result<Self> {
        match Self::try_begin(pool, unfinished, durability).await {
            // The connection was in an unexpected state, and is closed by now.
            Err(StoreError::Driver(_)) => Self::try_begin(pool, unfinished, durability).await,
            done => done,
        }
    }

    async fn try_begin(
        pool: &SqlitePool,
        unfinished: &Unfinished,
        durability: Durability,
    ) -> Result<Self> {
        let connection = pool.acquire().await?;
        let mut tx = Self { connection, unfinished: unfinished.clone() };
        // From here on a dropped request's transaction is rolled back.
        tx.unfinished.set(true);
        // A transaction that begins by reading and writes later fails under contention.
        match tx.connection.execute(durability.begin()).await {
            Ok(_) => Ok(tx),
            Err(error) => {
                tx.connection.close_on_drop();
                Err(error.into())
            }
        }
    }

    async fn end(mut self, statement: &'static str) -> Result<()> {
        match self.connection.execute(AssertSqlSafe(statement)).await {
            Ok(_) => {
                self.unfinished.set(false);
                Ok(())
            }
            Err(error) => {
                self.connection.close_on_drop();
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1: NORMAL, 2: FULL. The setting belongs to the connection, and the statement that sets it is
    /// prepared once.
    async fn synchronous(tx: &mut Tx) -> i64 {
        let Conn::Sqlite(conn) = tx.conn() else { panic!("SQLite") };
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(conn).await.unwrap()
    }

    #[tokio::test]
    async fn each_transaction_has_the_durability_that_it_was_opened_with() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("control.db").display());
        let store = Store::open(&url).await.unwrap();
        for _ in 0..3 {
            let mut tx = store.begin_unsynced().await.unwrap();
            assert_eq!(synchronous(&mut tx).await, 1);
            tx.commit().await.unwrap();
            let mut tx = store.begin().await.unwrap();
            assert_eq!(synchronous(&mut tx).await, 2);
            tx.commit().await.unwrap();
        }
        drop(store.begin_unsynced().await.unwrap());
        assert_eq!(synchronous(&mut store.begin().await.unwrap()).await, 2, "after a rollback");
    }
}
