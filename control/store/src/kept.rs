//! Connections to SQLite that are kept between their uses.
//!
//! The driver's pool asks each connection that comes back whether it is alive. That is a message to the
//! connection's thread, as expensive as a statement, and the next user waits for it. Here only those go back
//! to the pool with which something is wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lends connections in the order in which they are asked for. Clones share them.
#[derive(Clone)]
pub(crate) struct Kept(Arc<Inner>);

struct Inner {
    pool: SqlitePool,
    /// As many as the pool has connections.
    places: Arc<Semaphore>,
    /// The longest wait for a connection.
    patience: Duration,
    /// None: closed.
    idle: Mutex<Option<Vec<PoolConnection<Sqlite>>>>,
}

impl Kept {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        let options = pool.options();
        let (most, patience) = (options.get_max_connections(), options.get_acquire_timeout());
        let places = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner { pool, places, patience, idle: Mutex::new(Some(Vec::new())) }))
    }

    /// A connection, once there is one.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Lent> {
        let place = self.0.places.clone().acquire_owned();
        let place = tokio::time::timeout(self.0.patience, place).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.0.idle().as_mut().and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => self.0.pool.acquire().await?,
        };
        let kept = self.0.clone();
        Ok(Lent { connection: Some(connection), is_kept: true, kept, _place: place })
    }

    /// Closes all connections after their work has finished.
    pub(crate) async fn close(&self) {
        self.0.places.close();
        drop(self.0.idle().take());
        self.0.pool.close().await;
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Option<Vec<PoolConnection<Sqlite>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle connections do not go back to the pool, which is gone, too: that would need a runtime.
impl Drop for Inner {
    fn drop(&mut self) {
        let idle = self.idle().take();
        idle.into_iter().flatten().for_each(|connection| drop(connection.leak()));
    }
}

/// A connection that comes back when it is dropped.
pub(crate) struct Lent {
    /// Taken by the drop only.
    connection: Option<PoolConnection<Sqlite>>,
    is_kept: bool,
    kept: Arc<Inner>,
    /// Given back last: the next user finds the connection there.
    _place: OwnedSemaphorePermit,
}

impl Lent {
    #[expect(clippy::expect_used, reason = "it is taken by the drop only")]
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("a connection until it is dropped")
    }

    /// Has the pool look at it before it is lent again.
    pub(crate) fn doubt(&mut self) {
        self.is_kept = false;
    }

    /// Has the pool close it.
    pub(crate) fn close_on_drop(&mut self) {
        self.doubt();
        self.connection.iter_mut().for_each(PoolConnection::close_on_drop);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if self.is_kept
            && let Some(idle) = self.kept.idle().as_mut()
        {
            idle.extend(connection);
        }
        // Otherwise it goes back to the pool.
    }
}
