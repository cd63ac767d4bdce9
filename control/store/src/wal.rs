//! Makes commits on SQLite durable: one sync of the write-ahead log for all commits that wait.
//!
//! Commits are made with `synchronous = NORMAL`, which writes the log and leaves it to the
//! operating system. The next writer begins at once, and the one that committed waits for the sync, so
//! commits that come during one sync share the next one. Until then a commit is visible to readers
//! and may be lost by a power failure, so whatever leaves the process waits, too
//! ([`crate::Store::settled`]). docs/decisions/0013 has the reasons.

mod checkpoints;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::{Mutex, watch};

use self::checkpoints::Checkpoints;
use crate::measure::measure;
use crate::{Result, StoreError};

/// The write-ahead log, and how far it is durable. Commits are numbered; 0 is before the first.
pub(crate) struct Wal {
    path: PathBuf,
    checkpoints: Arc<Checkpoints>,
    /// The newest commit that was begun. Only the one writer adds to it.
    begun: AtomicU64,
    /// The newest commit that has ended: every earlier one is in the log, or failed.
    ended: watch::Sender<u64>,
    /// The newest commit that is durable.
    synced: AtomicU64,
    /// Whether a sync failed. What is in the log may be lost in memory, so that another sync proves
    /// nothing.
    doubtful: AtomicBool,
    /// Held by the one that syncs for all.
    turn: Mutex<()>,
    #[cfg(feature = "testing")]
    pub(crate) fault: AtomicBool,
    #[cfg(feature = "testing")]
    pub(crate) syncs: AtomicU64,
}

impl Wal {
    /// The log beside this database file.
    pub(crate) fn of(options: &SqliteConnectOptions) -> Self {
        let mut path = options.get_filename().as_os_str().to_owned();
        path.push("-wal");
        Self {
            path: path.into(),
            checkpoints: Arc::new(Checkpoints::new(options.clone())),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
            synced: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            turn: Mutex::new(()),
            #[cfg(feature = "testing")]
            fault: AtomicBool::new(false),
            #[cfg(feature = "testing")]
            syncs: AtomicU64::new(0),
        }
    }

    /// Called before COMMIT; returns the commit's number.
    pub(crate) fn begin_commit(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Called after this COMMIT, whatever came of it. The next one may have begun.
    pub(crate) fn end_commit(&self, commit: u64) {
        self.ended.send_if_modified(|ended| {
            let is_newer = *ended < commit;
            *ended = commit.max(*ended);
            is_newer
        });
    }

    /// The newest commit that a reader may have seen.
    pub(crate) fn newest(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Returns once the commit and all before it are durable.
    pub(crate) async fn durable(&self, commit: u64) -> Result<()> {
        if self.is_durable(commit) {
            return Ok(());
        }
        let mut ended = self.ended.subscribe();
        // The sender lives as long as `self`.
        let _there = ended.wait_for(|ended| *ended >= commit).await.is_ok();
        let _turn = self.turn.lock().await;
        if self.is_durable(commit) { Ok(()) } else { self.sync().await }
    }

    /// Before a transaction: makes what is in doubt durable, or refuses.
    pub(crate) async fn refuse_doubt(&self) -> Result<()> {
        if !self.doubtful.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        match self.doubtful.load(Ordering::SeqCst) {
            true => self.sync().await.map_err(|error| StoreError::StorageFull(error.to_string())),
            false => Ok(()),
        }
    }

    fn is_durable(&self, commit: u64) -> bool {
        self.synced.load(Ordering::SeqCst) >= commit
    }

    /// Syncs everything that has ended by now. `turn` must be held.
    async fn sync(&self) -> Result<()> {
        let started = Instant::now();
        let target = *self.ended.borrow();
        let done = match self.doubtful.load(Ordering::SeqCst) {
            false => self.sync_log().await,
            true => self.checkpoint().await,
        };
        measure("sync", started);
        self.doubtful.store(done.is_err(), Ordering::SeqCst);
        match done {
            Ok(()) => {
                self.synced.store(target, Ordering::SeqCst);
                self.checkpoints.after(target);
                Ok(())
            }
            Err(why) => {
                tracing::error!(%why, "the disk did not confirm changes; they are kept back");
                Err(StoreError::Unconfirmed(why))
            }
        }
    }

    /// Opens the file each time: it is another one if the database was closed in between. SQLite
    /// has no locks on it that closing it could release.
    async fn sync_log(&self) -> std::result::Result<(), String> {
        self.test_fault()?;
        let path = self.path.clone();
        let sync = move || File::open(path)?.sync_data();
        let done = tokio::task::spawn_blocking(sync).await;
        let done = done.unwrap_or_else(|ended| Err(io::Error::other(ended)));
        done.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Copies the log to the database file and syncs that.
    async fn checkpoint(&self) -> std::result::Result<(), String> {
        self.test_fault()?;
        match self.checkpoints.copy("FULL").await {
            Ok(copied) if copied.is_all() => Ok(()),
            Ok(_) => Err("the database is busy".to_owned()),
            Err(error) => Err(crate::error::one_line(&error)),
        }
    }

    /// Fails as the tests want.
    fn test_fault(&self) -> std::result::Result<(), String> {
        #[cfg(feature = "testing")]
        {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            if self.fault.load(Ordering::SeqCst) {
                return Err("a fault of the tests".to_owned());
            }
        }
        Ok(())
    }

    /// Keeps everybody from syncing, for tests.
    #[cfg(feature = "testing")]
    pub(crate) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}
