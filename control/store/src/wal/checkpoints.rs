//! Copies the log to the database file beside the commits, so that a writer seldom has to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

/// Commits between two checkpoints. One that creates a publish writes some thirty pages.
const EVERY: u64 = 128;

pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    /// The commit after which the last one began.
    last: AtomicU64,
    running: AtomicBool,
}

/// The answer to `PRAGMA wal_checkpoint`.
pub(super) struct Copied {
    busy: i64,
    pages: i64,
    copied: i64,
}

impl Copied {
    pub(super) fn is_all(&self) -> bool {
        self.busy == 0 && self.pages == self.copied
    }
}

impl Checkpoints {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, last: AtomicU64::new(0), running: AtomicBool::new(false) }
    }

    /// Begins a checkpoint if one is due after this commit. It waits for nobody and nobody waits for it.
    pub(super) fn after(self: &Arc<Self>, commit: u64) {
        let is_due = commit.saturating_sub(self.last.load(Ordering::Relaxed)) >= EVERY;
        if !is_due || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.last.store(commit, Ordering::Relaxed);
        let this = self.clone();
        tokio::spawn(async move {
            // The next one, or a writer, copies what this one could not.
            if let Err(error) = this.copy("PASSIVE").await {
                tracing::debug!(%error, "the log could not be copied to the database file");
            }
            this.running.store(false, Ordering::Release);
        });
    }

    /// Copies the log on a connection of its own, in this mode.
    pub(super) async fn copy(&self, mode: &'static str) -> sqlx::Result<Copied> {
        let mut one = SqliteConnection::connect_with(&self.options).await?;
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let (busy, pages, copied) =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&mut one).await?;
        one.close().await?;
        Ok(Copied { busy, pages, copied })
    }
}
