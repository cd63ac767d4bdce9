//! The connections of an open database: one type for both kinds of database.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, SqliteConnection};

use crate::Result;
use crate::batch::{Soon, SqliteConn, Unfinished, Waiting};
use crate::file::DatabaseFile;
use crate::kept::{Kept, Lent};
use crate::wal::Wal;

/// Connections for requests, and others that requests cannot exhaust.
pub(crate) struct Pools<P> {
    pub(crate) requests: P,
    pub(crate) platform: P,
}

pub(crate) enum Db {
    Sqlite {
        /// In WAL mode readers never wait for the writer.
        read: Pools<Kept>,
        /// A single connection. Writers queue for it in order, whereas SQLite's own waiting is
        /// polling and can starve a writer.
        write: Kept,
        /// The file that both pools have open.
        file: Arc<DatabaseFile>,
        /// The state of the writing connection.
        writer: Writer,
    },
    Pg(Pools<PgPool>),
}

/// A connection of either kind, for queries.
pub(crate) enum Conn<'c> {
    Sqlite(SqliteConn<'c>),
    Pg(&'c mut PgConnection),
}

impl Conn<'_> {
    /// For one query of several.
    pub(crate) fn again(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(SqliteConn { connection, waiting }) => {
                Conn::Sqlite(SqliteConn { connection, waiting })
            }
            Self::Pg(conn) => Conn::Pg(conn),
        }
    }

    /// The answer, once it has been read.
    pub(crate) async fn now<T>(self, soon: Soon<T>) -> Result<T> {
        if let Some(answer) = soon.take() {
            return answer;
        }
        if let Self::Sqlite(conn) = self {
            conn.alone().await?;
        }
        let unanswered = || sqlx::Error::Protocol("a query of another transaction".to_owned());
        soon.take().unwrap_or_else(|| Err(unanswered().into()))
    }
}

/// A borrowed connection for reading.
pub(crate) enum Held {
    Sqlite(Lent, Waiting),
    Pg(PoolConnection<Postgres>),
}

impl Held {
    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(lent, waiting) => {
                Conn::Sqlite(SqliteConn { connection: lent.connection(), waiting })
            }
            Self::Pg(held) => Conn::Pg(held),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Sqlite(lent, waiting) = self
            && waiting.had_errors
        {
            lent.doubt();
        }
    }
}

/// The state of the writing connection.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) unfinished: Unfinished,
    pub(crate) wal: Arc<Wal>,
}

impl Writer {
    pub(crate) fn new(wal: Wal) -> Self {
        Self { unfinished: Unfinished::default(), wal: Arc::new(wal) }
    }

    /// Rolls back a dropped transaction before the connection is lent again. Returns false if that
    /// fails; the connection is then closed.
    pub(crate) async fn take_back(&self, connection: &mut SqliteConnection) -> bool {
        if !self.unfinished.is() {
            return true;
        }
        let done = connection.execute("ROLLBACK").await;
        self.unfinished.set(false);
        // A COMMIT that was dropped came before, and nobody else has the connection.
        self.wal.end_commit(self.wal.newest());
        if let Err(error) = &done {
            tracing::warn!(%error, "the connection for writing is closed; the next one is new");
        }
        done.is_ok()
    }
}
