//! Opens a database: options, migrations, and a one-line error if it fails.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Executor, PgConnection};

use crate::db::{Db, Pools, Writer};
use crate::error::one_line;
use crate::file::{self, DatabaseFile};
use crate::kept::Kept;
use crate::wal::Wal;
use crate::{Result, StoreError};

// A process of the former release must keep working on the newer schema, and be able to restart on
// it, so migrations that this build does not know are no error (migrations/README.md).
fn sqlite_migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations/sqlite");
    migrator.set_ignore_missing(true);
    migrator
}

fn postgres_migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations/postgres");
    migrator.set_ignore_missing(true);
    migrator
}

/// The longest wait of a request for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
const STATEMENTS: usize = 512;
/// Pages in SQLite's log before the writer copies them to the database file, in units of 4 KiB, and others
/// wait for it. Most have been copied before, beside the commits (wal/checkpoints.rs).
const CHECKPOINT_PAGES: &str = "16000";
/// The cache of each reading connection, in KiB as SQLite writes it. What it has not is mostly in the
/// operating system's, once for all.
const READERS_CACHE: &str = "-512";
/// Reading connections to the SQLite file: for requests, and for the platform.
const READERS: (u32, u32) = (4, 2);
/// Connections to PostgreSQL: for requests, and for the platform.
const CONNECTIONS: (u32, u32) = (16, 6);

pub(crate) async fn database(url: &str) -> Result<Db> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return sqlite(Path::new(path)).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(url).await;
    }
    let why = "a database is named by sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE";
    Err(StoreError::Unavailable(why.to_owned()))
}

async fn sqlite(path: &Path) -> Result<Db> {
    let cannot = |why: String| {
        StoreError::Unavailable(format!("cannot open the database file {}: {why}", path.display()))
    };
    file::prepare(path).map_err(|error| cannot(error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // Commits do not sync: many share one sync (wal.rs).
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .foreign_keys(true)
        // For other processes only: within this one, writers queue for the one connection.
        .busy_timeout(PATIENCE)
        .statement_cache_capacity(STATEMENTS);
    let file = Arc::new(DatabaseFile::at(path).map_err(|error| cannot(error.to_string()))?);
    let writer = Writer::new(Wal::of(&options));
    let write = writing(&writer).connect_with(options.clone()).await;
    let write = write.map_err(|error| cannot(explain(&error)))?;
    sqlite_migrations().run(&write).await.map_err(|error| cannot(outdated(&error)))?;
    // Opened eagerly: one opened later would open whatever is at the path by then.
    let options = options.read_only(true).pragma("cache_size", READERS_CACHE);
    let readers = |count| {
        let file = file.clone();
        let same = move || file.check().map_err(|error| sqlx::Error::Protocol(error.to_string()));
        pool(count)
            .min_connections(count)
            .after_connect(move |_, _| Box::pin(std::future::ready(same())))
            .connect_with(options.clone())
    };
    let (requests, platform) = tokio::try_join!(readers(READERS.0), readers(READERS.1))
        .map_err(|error| cannot(explain(&error)))?;
    let read = Pools { requests: Kept::new(requests), platform: Kept::new(platform) };
    let write = Kept::new(write);
    Ok(Db::Sqlite { read, write, file, writer })
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        // A file does not disconnect.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// A single connection, which is lent only without an open transaction.
fn writing(writer: &Writer) -> SqlitePoolOptions {
    let writer = writer.clone();
    pool(1).after_release(move |connection, _| {
        let writer = writer.clone();
        Box::pin(async move { Ok(writer.take_back(connection).await) })
    })
}

/// SQLite's error, with what to do about it.
fn explain(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|cause| cause.code());
    match code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        Some(26) => "it must hold an SQLite database, but it is not a database; move it away or name another file".to_owned(),
        Some(11) => "it is damaged; restore it from a backup".to_owned(),
        Some(8 | 14) => format!("{}; check that it is a file that we may write", one_line(error)),
        _ => one_line(error),
    }
}

async fn postgres(url: &str) -> Result<Db> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        StoreError::Unavailable(format!("DATABASE_URL is not readable: {}", one_line(&error)))
    })?;
    let options = options.application_name("imp-control").statement_cache_capacity(STATEMENTS);
    let place = format!(
        "database {} at {}:{}",
        options.get_database().unwrap_or(options.get_username()),
        options.get_host(),
        options.get_port()
    );
    let cannot = |why: String| StoreError::Unavailable(format!("cannot use the {place}: {why}"));
    let mut one = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options))
        .await
        .map_err(|_| cannot(format!("no answer within {} s", PATIENCE.as_secs())))?
        .map_err(|error| cannot(one_line(&error)))?;
    check_version(&mut one).await.map_err(cannot)?;
    // Without the time limits of requests, because a migration may take long.
    postgres_migrations().run(&mut one).await.map_err(|error| cannot(outdated(&error)))?;
    one.close().await.map_err(|error| cannot(one_line(&error)))?;
    let connections = |count| {
        PgPoolOptions::new()
            .max_connections(count)
            .acquire_timeout(PATIENCE)
            .idle_timeout(Duration::from_secs(300))
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(LIMITS).await.map(drop) })
            })
            .connect_with(options.clone())
    };
    let (requests, platform) =
        tokio::try_join!(connections(CONNECTIONS.0), connections(CONNECTIONS.1))
            .map_err(|error| cannot(one_line(&error)))?;
    Ok(Db::Pg(Pools { requests, platform }))
}

/// No request may hold a connection or lock rows for long. Set by SET because connection poolers
/// refuse start-up options.
const LIMITS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'";

async fn check_version(one: &mut PgConnection) -> std::result::Result<(), String> {
    let number: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(one)
        .await
        .map_err(|error| one_line(&error))?;
    let major = number.parse::<u32>().unwrap_or_default() / 10_000;
    if major >= 15 {
        return Ok(());
    }
    Err(format!("it is PostgreSQL {major}; 15 or newer is needed"))
}

fn outdated(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMismatch(version) => {
            format!("migration {version} was applied with another text than this build holds")
        }
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => explain(cause),
        other => one_line(other),
    }
}
