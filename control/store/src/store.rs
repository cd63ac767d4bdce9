//! The handle of the database.

use std::sync::Arc;

use tokio::sync::watch;

use crate::batch::Waiting;
use crate::db::{Db, Held, Pools};
use crate::wake::Wake;
use crate::{Result, open};

/// An open and migrated database. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    caller: Caller,
}

/// Who uses the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Requests,
    Platform,
}

struct Inner {
    db: Db,
    wake: Wake,
    workers: watch::Sender<u64>,
}

impl Store {
    /// Connects to `sqlite://path` (the file is created when missing) or `postgres://...`, and
    /// migrates the schema.
    pub async fn open(url: &str) -> Result<Self> {
        let db = open::database(url).await?;
        let wake = match &db {
            Db::Sqlite { .. } => Wake::in_process(),
            Db::Pg(pools) => Wake::across(pools.platform.clone()),
        };
        let workers = watch::Sender::new(0);
        Ok(Self { inner: Arc::new(Inner { db, wake, workers }), caller: Caller::Requests })
    }

    /// The same database with connections that requests cannot exhaust, for work that serves all
    /// tenants.
    #[must_use]
    pub fn for_platform(&self) -> Self {
        Self { caller: Caller::Platform, ..self.clone() }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    /// The pool of this handle.
    pub(crate) fn own<'p, P>(&self, pools: &'p Pools<P>) -> &'p P {
        match self.caller {
            Caller::Requests => &pools.requests,
            Caller::Platform => &pools.platform,
        }
    }

    /// Whether several control planes may share this database.
    pub fn is_postgres(&self) -> bool {
        matches!(self.inner.db, Db::Pg(_))
    }

    /// Changes whenever the outbox may have new rows, from any process. The number has no meaning.
    /// Wake-ups can be lost, so also poll now and then, and they can be spurious.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.wake.subscribe()
    }

    /// Announces new rows in the outbox.
    pub(crate) fn tell(&self) {
        self.inner.wake.tell();
    }

    /// Changes whenever a commit of this process may have made a job due. Other processes have
    /// their own workers, so they announce nothing.
    pub fn jobs_changed(&self) -> watch::Receiver<u64> {
        self.inner.workers.subscribe()
    }

    /// Wakes the workers of this process.
    pub(crate) fn wake_workers(&self) {
        self.inner.workers.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns once everything that was read before this call is durable. What is read before that
    /// must not leave this process: a power failure could take it back. Changes that are committed
    /// by [`Store::begin_unsynced`] may be taken back all the same.
    pub async fn settled(&self) -> Result<()> {
        match &self.inner.db {
            Db::Sqlite { writer, .. } => writer.wal.durable(writer.wal.newest()).await,
            // PostgreSQL shows a commit only once it is durable.
            Db::Pg(_) => Ok(()),
        }
    }

    /// Closes all connections after their work has finished.
    pub async fn close(&self) {
        match &self.inner.db {
            Db::Sqlite { read, write, .. } => {
                read.requests.close().await;
                read.platform.close().await;
                write.close().await;
            }
            Db::Pg(pools) => {
                pools.requests.close().await;
                pools.platform.close().await;
            }
        }
    }

    pub(crate) async fn read(&self) -> Result<Held> {
        Ok(match &self.inner.db {
            Db::Sqlite { read, file, .. } => {
                let held = self.own(read).acquire().await;
                let held = held.map_err(|error| file.check().err().unwrap_or(error.into()))?;
                Held::Sqlite(held, Waiting::default())
            }
            Db::Pg(pools) => Held::Pg(self.own(pools).acquire().await?),
        })
    }
}
