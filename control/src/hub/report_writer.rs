//! The single writer of what agents report. It groups everything that arrived during one
//! transaction into the next, so that a thousand agents cost a few transactions, while a single
//! report is written at once.

mod batch;
mod conditions;
mod gateways;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use imp_core::{AgentId, ClusterId, ProductPublishId};
use imp_store::agent::Beat;
use imp_store::{Store, StoreError, audit, usage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connected_agents::ConnectedAgents;
use super::deliveries::Deliveries;
use crate::compile::is_passing;
use crate::retry::Retry;
use crate::state::Clock;
use batch::Batch;

/// How long a heartbeat without news may wait for others.
const LAZY: Duration = Duration::from_secs(1);

/// The queue's length; senders wait when it is full.
const QUEUE: usize = 64;
/// Messages per transaction.
const TOGETHER: usize = 16;

/// Something to write.
#[derive(Clone, Debug)]
pub enum Work {
    /// Agents of the cluster reported news of these publishes, or left.
    Statuses(ClusterId, Vec<ProductPublishId>),
    /// Agents of the cluster refuse other gateways, or left.
    Gateways(ClusterId),
    /// A heartbeat; `true` if it has news.
    Beat(AgentId, Beat, bool),
    /// Two processes use this agent's identity.
    Duplicate(AgentId),
    /// A row for the audit trail.
    Audit(audit::Entry),
    /// Counters that belong to the agent's cluster.
    Usage { agent: AgentId, epoch: String, rows: Vec<usage::Row> },
}

/// The work was not written, and a retry would not help.
#[derive(Debug)]
pub struct NotWritten;

/// Sends work to the writer.
#[derive(Clone, Debug)]
pub struct ReportQueue {
    queue: mpsc::Sender<Item>,
}

#[derive(Debug)]
struct Item {
    work: Work,
    done: oneshot::Sender<()>,
}

impl ReportQueue {
    /// Returns once the work is committed.
    pub async fn write(&self, work: Work) -> Result<(), NotWritten> {
        self.hand_over(work).await?.await.map_err(|_| NotWritten)
    }

    /// Returns once the writer has received the work.
    pub async fn note(&self, work: Work) -> Result<(), NotWritten> {
        self.hand_over(work).await.map(drop)
    }

    async fn hand_over(&self, work: Work) -> Result<oneshot::Receiver<()>, NotWritten> {
        let (done, written) = oneshot::channel();
        self.queue.send(Item { work, done }).await.map_err(|_| NotWritten)?;
        Ok(written)
    }
}

pub struct ReportWriter {
    store: Store,
    clock: Clock,
    connected: Arc<ConnectedAgents>,
    deliveries: Arc<Deliveries>,
    queue: mpsc::Receiver<Item>,
    /// The newest unwritten heartbeat of each agent.
    beats: HashMap<AgentId, Beat>,
}

impl ReportWriter {
    pub fn new(
        store: Store,
        clock: Clock,
        connected: Arc<ConnectedAgents>,
        deliveries: Arc<Deliveries>,
    ) -> (Self, ReportQueue) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let beats = HashMap::new();
        (Self { store, clock, connected, deliveries, queue, beats }, ReportQueue { queue: sender })
    }

    /// Runs until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(LAZY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut items = Vec::with_capacity(TOGETHER);
            tokio::select! {
                () = cancel.cancelled() => return,
                received = self.queue.recv_many(&mut items, TOGETHER) => if received == 0 { return },
                _ = tick.tick() => if self.beats.is_empty() { continue },
            }
            let ticked = items.is_empty();
            let items = self.sort(items);
            if ticked || !items.is_empty() {
                self.commit(items, &cancel).await;
            }
        }
    }

    /// Takes the heartbeats out; those with news stay, because they must be written now.
    fn sort(&mut self, items: Vec<Item>) -> Vec<Item> {
        let mut urgent = Vec::with_capacity(items.len());
        for item in items {
            if let Work::Beat(agent, beat, news) = &item.work {
                self.beats.insert(*agent, beat.clone());
                if !news {
                    continue;
                }
            }
            urgent.push(item);
        }
        urgent
    }

    /// Commits all items together. If the database refuses, writes them one by one to
    /// find the cause.
    async fn commit(&mut self, items: Vec<Item>, cancel: &CancellationToken) {
        let beats: Vec<(AgentId, Beat)> = self.beats.drain().collect();
        let together = items.iter().map(|item| &item.work);
        let done = match self.persist(Batch::of(together, beats.clone()), cancel).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "reports are written one by one");
                return self.commit_singly(items, beats, cancel).await;
            }
        };
        if done {
            for item in items {
                let _stream_ended = item.done.send(());
            }
        }
    }

    async fn commit_singly(
        &mut self,
        items: Vec<Item>,
        beats: Vec<(AgentId, Beat)>,
        cancel: &CancellationToken,
    ) {
        for beat in beats {
            if let Err(error) = self.persist(Batch::of([], vec![beat]), cancel).await {
                tracing::error!(%error, "an agent's sign of life cannot be stored");
            }
        }
        for item in items {
            match self.persist(Batch::of([&item.work], Vec::new()), cancel).await {
                Ok(true) => drop(item.done.send(())),
                Ok(false) => return,
                Err(error) => tracing::error!(%error, "an agent's report cannot be stored"),
            }
        }
    }

    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.write(&self.store, &self.connected, &self.deliveries, self.clock.now()).await
    }

    /// Retries until the database is available. Returns false if the program stops.
    async fn persist(&self, batch: Batch, cancel: &CancellationToken) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.write(&batch).await {
                Ok(()) => return Ok(true),
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "agents' reports wait for the database");
                }
                Err(error) => return Err(error),
            }
            if !retry.wait(cancel).await {
                return Ok(false);
            }
        }
    }
}
