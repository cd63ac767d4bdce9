//! The handle that everything goes through.

use std::sync::Arc;

use tokio::sync::watch;

use crate::db::{Db, Held, Pools};
use crate::wake::Wake;
use crate::{Result, open};

/// The database, opened and migrated. A clone is cheap and shares the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    caller: Caller,
}

/// For whom connections are used.
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
    /// Connects to `sqlite://path` (the file is made when missing) or `postgres://...`, and brings
    /// the schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        let db = open::database(url).await?;
        let wake = match &db {
            Db::Sqlite { .. } => Wake::in_process(),
            Db::Pg(pools) => Wake::across(pools.platform.clone()),
        };
        let workers = watch::Sender::new(0);
        Ok(Self { inner: Arc::new(Inner { db, wake, workers }), caller: Caller::Requests })
    }

    /// The same database through connections that no request can use up: for what serves all tenants.
    #[must_use]
    pub fn for_platform(&self) -> Self {
        Self { caller: Caller::Platform, ..self.clone() }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Which of the pools is this handle's.
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

    /// Moves on whenever the outbox may have new rows, whoever wrote them. The number means
    /// nothing; rows may come without it (poll now and then), and it may come without rows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.wake.subscribe()
    }

    /// There are new rows in the outbox.
    pub(crate) fn tell(&self) {
        self.inner.wake.tell();
    }

    /// Moves on whenever a job may have become due by a commit of this process. Other processes have
    /// workers of their own, so they tell nothing.
    pub fn jobs_changed(&self) -> watch::Receiver<u64> {
        self.inner.workers.subscribe()
    }

    /// There may be something to do.
    pub(crate) fn wake_workers(&self) {
        self.inner.workers.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Closes every connection; what is open finishes first.
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
                Held::Sqlite(held.map_err(|error| file.check().err().unwrap_or(error.into()))?)
            }
            Db::Pg(pools) => Held::Pg(self.own(pools).acquire().await?),
        })
    }
}
