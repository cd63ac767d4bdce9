//! Wakes followers of the outbox: inside the process by a watch, between processes that share a
//! PostgreSQL by LISTEN and NOTIFY.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

const CHANNEL: &str = "imp_outbox";

pub(crate) struct Wake {
    changed: watch::Sender<u64>,
    outgoing: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

impl Wake {
    /// SQLite: all writers are in this process.
    pub(crate) fn in_process() -> Self {
        Self { changed: watch::Sender::new(0), outgoing: Arc::default(), tasks: Vec::new() }
    }

    /// PostgreSQL: other replicas also write.
    pub(crate) fn across(pool: PgPool) -> Self {
        let mut wake = Self::in_process();
        // Our own notifications come back to us; this distinguishes them.
        let me = Uuid::new_v4().to_string();
        let speak = speak(pool.clone(), wake.outgoing.clone(), me.clone());
        let listen = listen(pool, wake.changed.clone(), me);
        wake.tasks = vec![tokio::spawn(speak), tokio::spawn(listen)];
        wake
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn tell(&self) {
        bump(&self.changed);
        self.outgoing.notify_one();
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn bump(changed: &watch::Sender<u64>) {
    changed.send_modify(|count| *count = count.wrapping_add(1));
}

/// Sends one NOTIFY for all commits since the last one. Losing one costs time, not data, because
/// followers also poll.
async fn speak(pool: PgPool, outgoing: Arc<Notify>, me: String) {
    loop {
        outgoing.notified().await;
        let sent = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(&me).execute(&pool);
        match sent.await {
            Ok(_) => {}
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "other replicas were not told of a change"),
        }
    }
}

/// Listens until dropped; reconnects with back-off when the connection is lost.
async fn listen(pool: PgPool, changed: watch::Sender<u64>, me: String) {
    let mut delays = backoff();
    loop {
        let lost = hear(&pool, &changed, &me, &mut delays).await;
        if matches!(lost, sqlx::Error::PoolClosed) || pool.is_closed() {
            return;
        }
        let delay = delays.next().unwrap_or(MAX_DELAY);
        tracing::warn!(error = %lost, ?delay, "not listening for changes of other replicas");
        tokio::time::sleep(delay).await;
    }
}

/// Listens until the connection is lost.
async fn hear(
    pool: &PgPool,
    changed: &watch::Sender<u64>,
    me: &str,
    delays: &mut ExponentialBackoff,
) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(pool).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    listener.eager_reconnect(false);
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    *delays = backoff();
    // Notifications may have been missed while not listening.
    bump(changed);
    loop {
        match listener.try_recv().await {
            Ok(Some(note)) if note.payload() == me => {}
            Ok(Some(_)) => bump(changed),
            Ok(None) => return sqlx::Error::WorkerCrashed,
            Err(error) => return error,
        }
    }
}

const MAX_DELAY: Duration = Duration::from_secs(10);

/// Delays that grow from 0.1 s to ten seconds, with jitter.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(MAX_DELAY)
        .without_max_times()
        .with_jitter()
        .build()
}
