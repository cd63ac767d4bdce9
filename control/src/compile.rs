//! Compiles the database into the resource set of each cluster.
//!
//! The [`Tailer`] loads everything once, then follows the outbox. It reads each subject again,
//! whatever happened to it, and hands it to [`placement::Placement`], which knows where it belongs;
//! the difference becomes one change per cluster and portion. Nothing here depends on the order of
//! subjects: a subject that comes twice, late or after its successor leads to the same resource
//! sets.

mod backlog;
mod cluster_resources;
pub mod message;
pub mod placement;
mod sources;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use imp_core::{AgentId, ClusterId, ProductPublishId};
use imp_store::compile::AgentStanding;
use imp_store::outbox::{Subject, Tail, Told};
use imp_store::{Result, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::retry::Retry;
use crate::workers::{polled_off_workers, statements};
use backlog::Backlog;
pub use cluster_resources::ClusterResources;
use placement::Placement;
use sources::Reader;

/// Poll interval, for wake-ups that are lost between replicas.
const POLL: Duration = Duration::from_secs(1);

/// A tailer that has not read for this long may have missed pruned rows
/// ([`crate::jobs::OUTBOX_KEPT`]), so it reloads everything.
const LONGEST_OUTAGE: Duration = Duration::from_secs(12 * 3600);

/// Receives changes of agents and publishes from the tailer. Must not block.
pub trait Watcher: Send + Sync + 'static {
    /// An agent changed, or is gone (`None`).
    fn agent(&self, id: AgentId, now: Option<AgentStanding>);

    /// A publish of this cluster changed, or is gone (`None`).
    fn publish(&self, id: ProductPublishId, cluster: Option<ClusterId>);

    /// A change led to a publish being compiled to this version of its resource.
    fn compiled(&self, id: ProductPublishId, version: &str, why: &Told);
}

/// Keeps the resource sets equal to the database.
pub struct Tailer {
    store: Store,
    cluster_resources: ClusterResources,
    watcher: Arc<dyn Watcher>,
    placement: Placement,
    backlog: Backlog,
    /// The causes of the subjects that wait.
    causes: HashMap<Subject, Told>,
}

impl Tailer {
    pub fn new(
        store: Store,
        cluster_resources: ClusterResources,
        watcher: Arc<dyn Watcher>,
    ) -> Self {
        Self {
            store,
            cluster_resources,
            watcher,
            placement: Placement::default(),
            backlog: Backlog::default(),
            causes: HashMap::new(),
        }
    }

    /// Runs until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let stopped = cancel.clone();
        tokio::select! {
            () = stopped.cancelled() => {}
            () = self.serve(cancel) => {}
        }
    }

    async fn serve(&mut self, cancel: CancellationToken) {
        let mut retry = Retry::default();
        loop {
            match self.load().await {
                Ok(tail) => self.follow(tail, &cancel).await,
                Err(error) => {
                    tracing::warn!(%error, "the resource sets cannot be loaded; trying again");
                    retry.wait(&cancel).await;
                }
            }
        }
    }

    /// Loads everything, page by page. Changes during the load come after the tail that is taken
    /// first.
    async fn load(&mut self) -> Result<Tail> {
        let started = Instant::now();
        let tail = Tail::at_head(&self.store).await?;
        self.backlog = Backlog::default();
        self.causes.clear();
        self.placement = Placement::default();
        self.reader().everything().await?;
        // After an outage too long to follow: remove what no longer exists.
        for cluster in self.cluster_resources.clusters() {
            if self.placement.knows(cluster) {
                self.placement.suspect(cluster, &self.cluster_resources);
            } else {
                self.cluster_resources.remove(cluster);
            }
        }
        self.apply();
        self.cluster_resources.mark_ready();
        let took = started.elapsed();
        tracing::info!(
            ?took,
            clusters = self.cluster_resources.clusters().len(),
            "the resource sets are loaded"
        );
        Ok(tail)
    }

    /// Follows the outbox until cancelled, or until rows may have been missed.
    async fn follow(&mut self, mut tail: Tail, cancel: &CancellationToken) {
        let mut changed = self.store.changed();
        let mut retry = Retry::default();
        let mut up_to_date = Instant::now();
        while up_to_date.elapsed() < LONGEST_OUTAGE {
            // Before the rows are read, so that a change in between wakes the loop again.
            changed.borrow_and_update();
            match self.step(&mut tail).await {
                Ok(()) => {
                    up_to_date = Instant::now();
                    retry.reset();
                    if !tail.has_more() {
                        let now = Instant::now();
                        let due = self.backlog.due(now).unwrap_or(now + POLL);
                        let _woken_or_time = tokio::time::timeout_at(due, changed.changed()).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the outbox; trying again");
                    retry.wait(cancel).await;
                }
            }
        }
    }

    /// Compiles a portion of the new subjects.
    async fn step(&mut self, tail: &mut Tail) -> Result<()> {
        let told = tail.next(&self.store).await?;
        let told = self.note_causes(told);
        let dear = self.backlog.dear_among(&told);
        self.backlog.add(told);
        for id in dear {
            if imp_store::compile::is_closed(&self.store, id).await? {
                self.backlog.hurry(id);
            }
        }
        let started = Instant::now();
        let portion = self.backlog.take(started);
        if portion.is_empty() {
            return Ok(());
        }
        let dear = self.backlog.is_dear(&portion);
        let store = self.store.clone();
        let mut reader = self.reader();
        let changed = reader.changed(&portion);
        let read = match dear {
            true => polled_off_workers(changed).await,
            false => statements(&store, changed).await,
        };
        let dear = reader.dear;
        if let Err(error) = read {
            // Subjects that were already read are read again, which changes nothing.
            self.backlog.add(portion);
            return Err(error);
        }
        self.apply();
        portion.iter().for_each(|subject| drop(self.causes.remove(subject)));
        let took = started.elapsed();
        self.backlog.took(&portion, &dear, took, Instant::now());
        metrics::counter!("imp_compiled_subjects_total").increment(portion.len() as u64);
        metrics::histogram!("imp_compile_seconds").record(took.as_secs_f64());
        Ok(())
    }

    fn reader(&mut self) -> Reader<'_> {
        let Self { store, cluster_resources, watcher, placement, causes, .. } = self;
        Reader {
            store,
            cluster_resources,
            watcher: &**watcher,
            placement,
            causes,
            dear: Vec::new(),
        }
    }

    fn note_causes(&mut self, told: Vec<Told>) -> Vec<Subject> {
        let note = |told: Told| {
            let subject = told.subject;
            self.causes.insert(subject, told);
            subject
        };
        told.into_iter().map(note).collect()
    }

    fn apply(&mut self) {
        for (cluster, change, resources) in self.placement.take() {
            metrics::counter!("imp_compiled_resources_total").increment(resources as u64);
            self.cluster_resources.apply(cluster, change);
        }
    }
}

/// If a row cannot be read, the resource sets keep what they have of it. After a restart they have
/// nothing; then they only record that it exists, so that agents keep theirs
/// ([`imp_xds::Change::retain`]).
fn skip(what: &'static str, id: impl std::fmt::Display, error: &dyn std::error::Error) {
    metrics::counter!("imp_compile_skipped_total", "kind" => what).increment(1);
    tracing::error!(what, %id, %error, "cannot be compiled; what is served of it stays");
}

/// Whether a retry may help although the row does not change.
pub(crate) fn is_passing(error: &StoreError) -> bool {
    use StoreError::{Replaced, StorageFull, Unavailable, Unconfirmed};
    matches!(error, Unavailable(_) | StorageFull(_) | Replaced(_) | Unconfirmed(_))
}
