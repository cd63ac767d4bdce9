//! The handle that everything goes through: two databases behind one type.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::watch;

use crate::wake::Wake;
use crate::{Result, open};

/// The database, opened and migrated. A clone is cheap and shares the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    wake: Wake,
}

pub(crate) enum Db {
    Sqlite {
        /// WAL: readers never wait for the writer.
        read: SqlitePool,
        /// One connection. Writers queue for it in order; SQLite's own waiting is polling, and
        /// starves someone.
        write: SqlitePool,
    },
    Pg(PgPool),
}

/// A connection of either kind: what every query runs on.
pub(crate) enum Conn<'c> {
    Sqlite(&'c mut SqliteConnection),
    Pg(&'c mut PgConnection),
}

/// A connection for reading, on loan.
pub(crate) enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Pg(PoolConnection<Postgres>),
}

impl Held {
    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(held) => Conn::Sqlite(held),
            Self::Pg(held) => Conn::Pg(held),
        }
    }
}

impl Store {
    /// Connects to `sqlite://path` (the file is made when missing) or `postgres://...`, and brings
    /// the schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        let db = open::database(url).await?;
        let wake = match &db {
            Db::Sqlite { .. } => Wake::in_process(),
            Db::Pg(pool) => Wake::across(pool.clone()),
        };
        Ok(Self { inner: Arc::new(Inner { db, wake }) })
    }

    /// Whether several control planes may share this database.
    pub fn is_postgres(&self) -> bool {
        matches!(self.inner.db, Db::Pg(_))
    }

    /// Opens a transaction for writing; dropping it takes everything back.
    pub async fn begin(&self) -> Result<Tx> {
        let open = match &self.inner.db {
            // A transaction that reads first and turns writer later fails under contention.
            Db::Sqlite { write, .. } => Open::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Db::Pg(pool) => Open::Pg(pool.begin().await?),
        };
        Ok(Tx { open, store: self.clone(), tells: false })
    }

    /// Moves on whenever the outbox may have new rows, whoever wrote them. The number means
    /// nothing; rows may come without it (poll now and then), and it may come without rows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.wake.subscribe()
    }

    /// Closes every connection; what is open finishes first.
    pub async fn close(&self) {
        match &self.inner.db {
            Db::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Db::Pg(pool) => pool.close().await,
        }
    }

    pub(crate) async fn read(&self) -> Result<Held> {
        Ok(match &self.inner.db {
            Db::Sqlite { read, .. } => Held::Sqlite(read.acquire().await?),
            Db::Pg(pool) => Held::Pg(pool.acquire().await?),
        })
    }
}

/// A transaction. Nothing of it is seen before [`Tx::commit`].
pub struct Tx {
    open: Open,
    store: Store,
    /// Whether it wrote to the outbox.
    tells: bool,
}

enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    Pg(Transaction<'static, Postgres>),
}

impl Tx {
    /// Makes it last, then wakes who follows the outbox. The order matters: a NOTIFY inside the
    /// transaction takes a lock that all committing writers share.
    pub async fn commit(self) -> Result<()> {
        match self.open {
            Open::Sqlite(tx) => tx.commit().await?,
            Open::Pg(tx) => tx.commit().await?,
        }
        if self.tells {
            self.store.inner.wake.tell();
        }
        Ok(())
    }

    /// Takes everything back, now.
    pub async fn rollback(self) -> Result<()> {
        match self.open {
            Open::Sqlite(tx) => tx.rollback().await?,
            Open::Pg(tx) => tx.rollback().await?,
        }
        Ok(())
    }

    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match &mut self.open {
            Open::Sqlite(tx) => Conn::Sqlite(tx),
            Open::Pg(tx) => Conn::Pg(tx),
        }
    }

    pub(crate) fn will_tell(&mut self) {
        self.tells = true;
    }
}
