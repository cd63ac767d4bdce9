//! Many clients, and their combined state.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Kind;
use super::client::{Client, Common, Counts, Manner};
use super::holding::{Holding, Refused};

/// Concurrent connection attempts.
const DIALLING: usize = 64;

/// Connected clients; they disconnect when this is dropped.
pub(super) struct Fleet {
    clients: Vec<Arc<Client>>,
    common: Arc<Common>,
    tasks: JoinSet<Result<()>>,
}

impl Fleet {
    /// Connects one client for each behaviour. `held` is what they have from before.
    pub(super) fn connect(
        port: u16,
        kind: Kind,
        manners: &[Manner],
        resources: usize,
        held: Option<&Holding>,
    ) -> Self {
        let common = Arc::new(Common {
            port,
            kind,
            resources,
            counts: Counts::default(),
            measuring: false.into(),
            last: Default::default(),
            dialling: Semaphore::new(DIALLING),
        });
        let mut fleet = Self { clients: Vec::new(), common, tasks: JoinSet::new() };
        for &manner in manners {
            let holding = held.cloned().unwrap_or_else(|| Holding::nothing(resources));
            let client = Arc::new(Client::new(manner, holding));
            fleet.clients.push(client.clone());
            let common = fleet.common.clone();
            fleet.tasks.spawn(async move { client.follow(&common).await });
        }
        fleet
    }

    /// Waits until all clients but slow ones have everything.
    pub(super) async fn synced(&mut self, limit: Duration) -> Result<()> {
        let whole = self.common.resources as u64;
        self.until("synced", limit, |client| client.held.load(Ordering::Acquire) >= whole).await
    }

    /// Waits until all clients but slow ones have seen this generation.
    pub(super) async fn reached(&mut self, generation: u64, limit: Duration) -> Result<()> {
        let seen = |client: &Client| client.newest.load(Ordering::Acquire) >= generation;
        self.until("up to date", limit, seen).await
    }

    /// Waits until all clients but slow ones have got a response, possibly an empty one.
    pub(super) async fn answered(&mut self, limit: Duration) -> Result<()> {
        self.until("answered", limit, |client| client.answers.load(Ordering::Acquire) > 0).await
    }

    /// Waits until no client received anything for this long.
    pub(super) async fn at_rest(&mut self, quiet: Duration, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let (mut seen, mut since) = (self.responses(), Instant::now());
        while since.elapsed() < quiet {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.still_connected()?;
            if self.responses() != seen {
                (seen, since) = (self.responses(), Instant::now());
            }
            if Instant::now() > deadline {
                bail!("responses still come after {limit:?}");
            }
        }
        Ok(())
    }

    /// Fails if a client's stream has ended.
    pub(super) fn still_connected(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended?.context("a client was cut off")?;
                bail!("a client's stream was closed")
            }
        }
    }

    async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Client) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        // Slow clients are only there as a burden; nobody waits for them.
        let missing = |fleet: &Self| {
            let awaited = fleet.clients.iter().filter(|client| client.manner != Manner::Slow);
            awaited.filter(|client| !done(client)).count()
        };
        while missing(self) > 0 {
            self.still_connected()?;
            if Instant::now() > deadline {
                bail!("{} clients are not {what} after {limit:?}", missing(self));
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }

    /// The number of wrong resources of any client at this generation, once there are none or the
    /// time is over: slow clients may catch up.
    pub(super) async fn lost(&mut self, generation: u64, limit: Duration) -> Result<u64> {
        let deadline = Instant::now() + limit;
        loop {
            self.still_connected()?;
            let lost = self.clients.iter().map(|client| client.holding().wrong(generation)).sum();
            if lost == 0 || Instant::now() > deadline {
                return Ok(lost);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts measuring delays.
    pub(super) fn measure(&self) {
        self.common.measuring.store(true, Ordering::Release);
    }

    /// Milliseconds from each change until the last good client had it. Excludes changes that a
    /// newer one of the same resource overtook.
    pub(super) fn delays(&self) -> Vec<f64> {
        let last = self.common.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.values().map(|nanos| *nanos as f64 / 1e6).collect()
    }

    /// The resources of the first client.
    pub(super) fn holding(&self) -> Result<Holding> {
        Ok(self.clients.first().context("no client")?.holding().clone())
    }

    /// The rejections of the first client.
    pub(super) fn refused(&self) -> Result<Refused> {
        Ok(self.clients.first().context("no client")?.refused().clone())
    }

    /// Bytes read from all connections so far.
    pub(super) fn bytes(&self) -> u64 {
        self.common.counts.bytes.load(Ordering::Relaxed)
    }

    /// Responses to all clients so far.
    pub(super) fn responses(&self) -> u64 {
        self.common.counts.responses.load(Ordering::Relaxed)
    }

    /// Resources that clients received although they had them.
    pub(super) fn duplicates(&self) -> u64 {
        self.common.counts.duplicates.load(Ordering::Relaxed)
    }

    /// How often a client was told to come back later.
    pub(super) fn turned_away(&self) -> u64 {
        self.common.counts.turned_away.load(Ordering::Relaxed)
    }
}
