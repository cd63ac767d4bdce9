//! The consuming end of the delta stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use imp_proto::config::ResourceType;
use imp_xds::client::{Rejections, Subscriber, Update};
use imp_xds::{Resource, TypeUrl};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::publish_worker::PublishWorker;
use super::session::Session;
use super::shrink::{Heard, Names, ShrinkGuard, Withheld};
use super::versions::Versions;
use crate::fleet::{Fleet, Restored};
use crate::intake::{Item, Parser, Rejected, is_rendered};
use crate::lkg::{self, Lkg, Loaded, Table};

/// The agent's resources from the control plane: names and versions here, the content in the fleet,
/// and all of it on disk.
pub struct HeldResources {
    held: Mutex<Held>,
    fleet: Fleet,
    lkg: Lkg,
    /// Signals that the operator has accepted a smaller resource set.
    accepted: Notify,
    withheld: watch::Sender<Withheld>,
    /// Signals that the time to settle removals may have changed.
    waits: Notify,
}

#[derive(Debug, Default)]
struct Held {
    versions: BTreeMap<ResourceType, Versions>,
    /// Kinds that have been received completely at least once in this state directory.
    heard: BTreeSet<ResourceType>,
    /// Whether the disk has recorded that all of them were.
    told_complete: bool,
    guard: ShrinkGuard,
}

/// The version of what is held and not on disk.
const UNKNOWN: &str = "unknown";

/// The fact that every type has been received once.
const COMPLETE: &str = "complete";

impl HeldResources {
    /// `restored` is what the fleet has restored from disk; `complete` tells whether that was a
    /// whole resource set.
    pub fn new(fleet: Fleet, lkg: Lkg, restored: Vec<Restored>, complete: bool) -> Self {
        let mut held = Held::default();
        for Restored { kind, name, version } in restored {
            held.versions.entry(kind).or_default().insert(&name, &version);
        }
        if complete {
            held.heard.extend(ResourceType::ALL);
            held.told_complete = true;
        }
        let (accepted, withheld) = (Notify::new(), watch::Sender::default());
        Self { held: Mutex::new(held), fleet, lkg, accepted, withheld, waits: Notify::new() }
    }

    /// Whether the state on disk is a whole resource set, not the beginning of one.
    pub fn was_complete(loaded: &Loaded) -> bool {
        loaded.get(Table::Facts, COMPLETE).is_some()
    }

    /// Whether everything has been received once, so that it can be served.
    pub fn is_complete(&self) -> bool {
        self.lock().is_complete()
    }

    /// Waits until everything that was applied so far is on disk, or the disk fails, and until
    /// modules inside Envoys decide by it.
    pub(super) async fn flush(&self) {
        self.fleet.fed().await;
        let _on_disk = self.lkg.flush().await;
    }

    /// Waits until the rows on disk were lost more often than `seen` times. Returns the count.
    pub(super) async fn lost(&self, seen: u64) -> u64 {
        self.lkg.lost(seen).await
    }

    /// Makes the next stream send the content of everything that is held. Names are still
    /// announced, so that removals meanwhile are detected.
    pub(super) fn ask_for_everything(&self) {
        let mut held = self.lock();
        (held.heard, held.told_complete) = (BTreeSet::new(), false);
        // It may still wait for the disk.
        self.lkg.remove(Table::Facts, COMPLETE);
        held.versions.values_mut().for_each(|versions| versions.set_all(UNKNOWN));
    }

    /// Begins a stream, which repeats all removals.
    fn begin_stream(&self) {
        self.lock().guard.begin(Instant::now());
        self.waits.notify_one();
    }

    /// Decides about a message's removals before any of it is applied; only those to apply now stay
    /// in it.
    fn hear(&self, kind: ResourceType, update: &mut Update) {
        let mut held = self.lock();
        let heard = Heard {
            kind,
            upserts: update.upserts.iter().map(|resource| &**resource.name()).collect(),
            removals: std::mem::take(&mut update.removals),
            held: held.count(kind),
            publishes: held.count(ResourceType::Publish),
            now: Instant::now(),
        };
        let removals = held.guard.hear(heard);
        let withheld = held.guard.withheld();
        drop(held);
        update.removals = removals;
        self.tell_withheld(withheld);
        self.waits.notify_one();
    }

    /// Returns removals once enough time has passed to decide.
    async fn settled_removals(&self) -> Names {
        loop {
            let at = self.lock().guard.settles_at();
            let Some(at) = at else {
                self.waits.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                // The deadline may have moved.
                () = self.waits.notified() => continue,
            }
            let mut held = self.lock();
            let names = held.guard.settle();
            let withheld = held.guard.withheld();
            drop(held);
            self.tell_withheld(withheld);
            return names;
        }
    }

    fn tell_withheld(&self, now: Withheld) {
        let is_news = |was: &mut Withheld| std::mem::replace(was, now) != now;
        if !self.withheld.send_if_modified(is_news) {
            return;
        }
        metrics::gauge!("imp_withheld_removals").set(now.removals as f64);
        match now {
            Withheld { removals: 0, .. } => tracing::info!("no removals are held back any more"),
            Withheld { removals, held } => tracing::error!(
                removals,
                held,
                "THE CONTROL PLANE'S RESOURCES HAVE SHRUNK: nothing is removed and what is held is served, until a person says `imp-agent accept-shrink --removals {removals}`"
            ),
        }
    }

    /// The control plane's removals that are held back.
    pub fn withheld(&self) -> watch::Receiver<Withheld> {
        self.withheld.subscribe()
    }

    /// Accepts the removal of up to this many gateways and publishes: everything is requested
    /// again, and the answer is applied.
    pub fn accept_shrink(&self, most: usize) {
        tracing::warn!(removals = most, "a smaller resource set is accepted");
        self.lock().guard.accept(most, Instant::now());
        self.accepted.notify_one();
    }

    /// Waits until the operator has accepted a smaller resource set.
    pub(super) async fn accepted(&self) {
        self.accepted.notified().await;
    }

    /// Applies a message. Returns what was rejected, and whether the rest revokes or removes
    /// something.
    pub(super) fn apply(&self, update: Update) -> (Vec<(String, String)>, bool) {
        let Some(kind) = ResourceType::of(update.type_url.as_str()) else {
            return (Vec::new(), false);
        };
        let mut items = Vec::with_capacity(update.upserts.len());
        let mut taken = Vec::with_capacity(update.upserts.len());
        let mut rejected = Vec::new();
        let mut parser = Parser::default();
        for resource in update.upserts {
            match parser.parse(kind, &resource) {
                Ok(item) => {
                    items.push(item);
                    taken.push(resource);
                }
                Err(reason) => rejected.push((resource.name().to_string(), reason)),
            }
        }
        let mut removals = update.removals;
        if !is_rendered(kind) {
            // An unreadable resource may be a revocation.
            removals.extend(rejected.iter().map(|(name, _)| name.clone()));
        }
        let tightens = tightens(kind, &removals, &items);
        // Callers see it as soon as it is applied.
        if !is_rendered(kind) {
            self.say(kind, &removals, items.iter().zip(&taken));
        }
        self.take(kind, (items, &taken), removals.clone(), &rejected);
        self.record(kind, taken, removals, update.more);
        self.lkg.said();
        if is_rendered(kind) {
            self.lock().guard.applied(Instant::now());
            self.waits.notify_one();
        }
        let words = rejected.into_iter().map(|(name, rejected)| (name, rejected.reason));
        (words.collect(), tightens)
    }

    /// Makes removals survive the process from now on.
    fn say<'a>(
        &self,
        kind: ResourceType,
        removals: &'a [String],
        taken: impl Iterator<Item = (&'a Item, &'a Resource)>,
    ) {
        let key = |name: &str| lkg::key(kind.type_url(), name);
        let gone = removals.iter().map(|name| (key(name), "", true));
        let here = taken.map(|(item, resource)| {
            (key(resource.name()), resource.version().as_ref(), is_tighter(item))
        });
        self.lkg.say(gone.chain(here));
    }

    fn take(
        &self,
        kind: ResourceType,
        (items, resources): (Vec<Item>, &[Resource]),
        removals: Vec<String>,
        rejected: &[(String, Rejected)],
    ) {
        for (name, rejected) in rejected {
            tracing::warn!(?kind, %name, reason = %rejected.reason, "cannot take a resource");
        }
        let removals: Vec<_> = removals.into_iter().map(|name| (kind, name)).collect();
        if !is_rendered(kind) {
            return self.fleet.enforce(&items, resources, &removals);
        }
        let rejected = rejected.iter().map(|(name, why)| (kind, name.clone(), why.clone()));
        self.fleet.change(items, removals, rejected.collect());
    }

    /// Records what was applied as held. A kind is complete when the last part of its first
    /// response was applied: with less, hosts would be served as unknown.
    fn record(&self, kind: ResourceType, taken: Vec<Resource>, removals: Vec<String>, more: bool) {
        let url = kind.type_url();
        let mut held = self.lock();
        let of_kind = held.versions.entry(kind).or_default();
        for name in removals {
            of_kind.remove(&name);
            self.lkg.remove(Table::Resources, lkg::key(url, &name));
        }
        for resource in taken {
            self.lkg.put(
                Table::Resources,
                lkg::key(url, resource.name()),
                lkg::row(url, &resource),
            );
            of_kind.insert(resource.name(), resource.version());
        }
        if !more {
            held.heard.insert(kind);
        }
        let complete = held.is_complete();
        let tell = complete && !std::mem::replace(&mut held.told_complete, complete);
        drop(held);
        if tell {
            self.lkg.put(Table::Facts, COMPLETE, "");
        }
        if complete && !self.fleet.is_open() {
            self.fleet.open();
            tracing::info!(publishes = self.fleet.size().publishes, "complete: Envoys are served");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_complete(&self) -> bool {
        self.heard.len() == ResourceType::ALL.len()
    }

    fn count(&self, kind: ResourceType) -> usize {
        self.versions.get(&kind).map_or(0, Versions::len)
    }
}

/// Whether it revokes or removes something, which must be on disk before it is acknowledged to the
/// control plane.
fn tightens(kind: ResourceType, removals: &[String], items: &[Item]) -> bool {
    let removal_does = match kind {
        ResourceType::Gateway => false,
        ResourceType::Publish | ResourceType::Entitlement | ResourceType::Credential => true,
    };
    (removal_does && !removals.is_empty()) || items.iter().any(is_tighter)
}

fn is_tighter(item: &Item) -> bool {
    match item {
        Item::Credential(credential) => !credential.is_active(),
        Item::Entitlement(entitlement) => !entitlement.is_unlimited_in_time(),
        Item::Publish(publish) => publish.access.suspended,
        Item::Gateway(_) => false,
    }
}

/// An update of removals that does not make its kind complete.
fn removal_of((kind, names): (ResourceType, BTreeSet<String>)) -> Update {
    let (type_url, removals) = (TypeUrl::from(kind.type_url()), names.into_iter().collect());
    Update { type_url, upserts: Vec::new(), removals, more: true }
}

/// The held resources, as the delta client sees them.
pub(super) struct Stream {
    held_resources: Arc<HeldResources>,
    session: Arc<Session>,
    /// What was applied last must be on disk before it is acknowledged.
    must_be_kept: AtomicBool,
    /// Parses and renders publishes.
    publish_worker: PublishWorker,
}

impl Stream {
    pub(super) fn new(held_resources: Arc<HeldResources>, session: Arc<Session>) -> Self {
        let publish_worker = PublishWorker::start(held_resources.clone());
        Self { held_resources, session, must_be_kept: AtomicBool::new(false), publish_worker }
    }

    /// Applies removals once they are decided, without end. Runs in the stream's task, so that it
    /// cannot overtake messages received meanwhile.
    pub(super) async fn settle(&self) {
        loop {
            let names = self.held_resources.settled_removals().await;
            for update in names.into_iter().map(removal_of) {
                // Acknowledged long ago. A crash before it is on disk costs nothing: the next
                // stream repeats it.
                if let Err(update) = self.rendered(update) {
                    self.held_resources.apply(update);
                    let _on_disk = self.held_resources.lkg.flush_access().await;
                }
            }
        }
    }

    /// Sends gateways and publishes to the worker: both are rendered under one lock.
    fn rendered(&self, update: Update) -> Result<Rejections, Update> {
        match ResourceType::of(update.type_url.as_str()) {
            Some(of) if is_rendered(of) => Ok(self.publish_worker.take(update)),
            _ => Err(update),
        }
    }

    /// Waits until nothing of a former stream is applied any more.
    pub(super) async fn settled(&self) {
        self.publish_worker.settled().await;
    }
}

impl Subscriber for Stream {
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)> {
        let Some(kind) = ResourceType::of(type_url.as_str()) else { return Vec::new() };
        let held = self.held_resources.lock();
        held.versions.get(&kind).into_iter().flat_map(Versions::iter).collect()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        let (rejected, tightens) = self.held_resources.apply(update);
        self.must_be_kept.store(tightens, Ordering::Release);
        rejected
    }

    fn apply_elsewhere(&self, mut update: Update) -> Result<Rejections, Update> {
        let Some(kind) = ResourceType::of(update.type_url.as_str()) else { return Err(update) };
        self.held_resources.hear(kind, &mut update);
        self.rendered(update)
    }

    fn kept(&self) -> Option<BoxFuture<'static, ()>> {
        let needed = self.must_be_kept.swap(false, Ordering::AcqRel);
        let (lkg, fleet) = (self.held_resources.lkg.clone(), self.held_resources.fleet.clone());
        // While the disk fails it is acknowledged all the same, because receiving nothing more
        // would be worse. The metric imp_lkg_failing reports it.
        let kept = async move {
            fleet.fed().await;
            let _on_disk = lkg.flush_access().await;
        };
        needed.then(|| Box::pin(kept) as BoxFuture<'static, ()>)
    }

    fn connected(&self, connected: bool) {
        if connected {
            self.held_resources.begin_stream();
        }
        self.session.connected(connected);
    }
}

#[cfg(test)]
mod tests;
