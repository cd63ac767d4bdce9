//! Temporary databases for tests, of this package and of others: a SQLite file each, or a database
//! on a PostgreSQL server that is started once per test process. A missing server is an error,
//! never a reason to skip.

mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::db::Db;
use crate::wal::Wal;
use crate::{Result, Store, StoreError};
use server::Server;

/// The kinds of databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database; deleted with the last clone, or with the process.
#[derive(Clone, Debug)]
pub struct Database {
    url: String,
    _folder: Option<Arc<TempDir>>,
}

static SERVER: OnceCell<std::result::Result<Server, String>> = OnceCell::const_new();

impl Database {
    /// Creates one without tables, which [`Store::open`] creates.
    pub async fn fresh(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Sqlite => {
                let failed = |error: std::io::Error| StoreError::Unavailable(error.to_string());
                let folder = TempDir::new().map_err(failed)?;
                let url = format!("sqlite://{}", folder.path().join("imp.db").display());
                Ok(Self { url, _folder: Some(Arc::new(folder)) })
            }
            Kind::Postgres => {
                let server = SERVER.get_or_init(Server::start).await;
                let server = server.as_ref().map_err(|why| StoreError::Unavailable(why.clone()))?;
                let name = format!("imp_{}", Uuid::new_v4().simple());
                let mut one = PgConnection::connect(&server.url("postgres")).await?;
                let sql = format!("CREATE DATABASE {name}");
                one.execute(sqlx::AssertSqlSafe(sql)).await?;
                one.close().await?;
                Ok(Self { url: server.url(&name), _folder: None })
            }
        }
    }

    /// The URL for [`Store::open`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens another handle with its own connections.
    pub async fn open(&self) -> Result<Store> {
        Store::open(&self.url).await
    }
}

/// Runs arbitrary SQL, to break what no operation breaks.
pub async fn execute(store: &Store, sql: &'static str) -> Result<()> {
    let mut tx = store.begin().await?;
    execute!(tx.conn(), sql)?;
    tx.commit().await
}

/// Keeps commits on SQLite from becoming durable, as a slow disk does, while `meanwhile` runs.
pub async fn while_nothing_is_durable(store: &Store, meanwhile: impl Future<Output = ()>) {
    let _held = match wal(store) {
        Some(wal) => Some(wal.hold().await),
        None => None,
    };
    meanwhile.await;
}

/// Makes syncs on SQLite fail, as a failing disk does.
pub fn fail_syncs(store: &Store, fail: bool) {
    if let Some(wal) = wal(store) {
        wal.fault.store(fail, Ordering::SeqCst);
    }
}

/// How often SQLite's log was synced.
pub fn syncs(store: &Store) -> u64 {
    wal(store).map_or(0, |wal| wal.syncs.load(Ordering::SeqCst))
}

fn wal(store: &Store) -> Option<&Wal> {
    match store.db() {
        Db::Sqlite { writer, .. } => Some(&writer.wal),
        Db::Pg(_) => None,
    }
}
