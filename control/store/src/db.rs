//! The connections of an open database: two kinds behind one type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

use crate::file::DatabaseFile;

/// Connections that requests may use up, and others that they cannot.
pub(crate) struct Pools<P> {
    pub(crate) requests: P,
    pub(crate) platform: P,
}

pub(crate) enum Db {
    Sqlite {
        /// WAL: readers never wait for the writer.
        read: Pools<SqlitePool>,
        /// One connection. Writers queue for it in order; SQLite's own waiting is polling, and
        /// starves someone.
        write: SqlitePool,
        /// What both are open on.
        file: Arc<DatabaseFile>,
        /// Of the one connection for writing.
        unfinished: Unfinished,
    },
    Pg(Pools<PgPool>),
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

/// Whether the one connection for writing may have a transaction open that nobody holds any more.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<AtomicBool>);

impl Unfinished {
    pub(crate) fn set(&self, unfinished: bool) {
        self.0.store(unfinished, Ordering::Release);
    }

    /// Before the connection is lent out again: takes back what was dropped. False: it cannot be,
    /// and the connection is closed.
    pub(crate) async fn take_back(&self, connection: &mut SqliteConnection) -> bool {
        if !self.0.load(Ordering::Acquire) {
            return true;
        }
        let done = connection.execute("ROLLBACK").await;
        if let Err(error) = &done {
            tracing::warn!(%error, "the connection for writing is closed; the next one is new");
        }
        done.is_ok()
    }
}
