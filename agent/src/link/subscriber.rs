//! The consuming end of the delta stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use imp_xds::client::{Rejections, Subscriber, Update};
use imp_xds::{Resource, TypeUrl};

use super::session::Session;
use super::workshop::Workshop;
use crate::fleet::{Fleet, Restored};
use crate::intake::{self, Item, Kind, Rejected};
use crate::lkg::{self, Lkg, Loaded, Table};

/// What the agent holds of the control plane's resources: names and versions here, the content in
/// the fleet, and all of it on disk.
pub struct Holdings {
    held: Mutex<Held>,
    fleet: Fleet,
    lkg: Lkg,
}

#[derive(Debug, Default)]
struct Held {
    versions: BTreeMap<Kind, BTreeMap<String, String>>,
    /// Kinds of which everything has been heard at least once in this state directory's life.
    heard: BTreeSet<Kind>,
    /// The disk knows that all of them were.
    told_complete: bool,
}

/// The version of what is held and not on disk.
const UNKNOWN: &str = "unknown";

/// The fact that every type has been heard once.
const COMPLETE: &str = "complete";

/// More of the publishes going in one message than this is worth a line in the log.
const SHRINKING: usize = 10;

impl Holdings {
    /// `restored`: what the fleet has taken from disk; `complete`: that was a whole world.
    pub fn new(fleet: Fleet, lkg: Lkg, restored: Vec<Restored>, complete: bool) -> Self {
        let mut held = Held::default();
        for Restored { kind, name, version } in restored {
            held.versions.entry(kind).or_default().insert(name, version);
        }
        if complete {
            held.heard.extend(Kind::ALL);
            held.told_complete = true;
        }
        Self { held: Mutex::new(held), fleet, lkg }
    }

    /// Whether the state on disk is a whole world, not the beginning of one.
    pub fn was_complete(loaded: &Loaded) -> bool {
        loaded.get(Table::Facts, COMPLETE).is_some()
    }

    /// Whether everything has been heard once: enough to serve.
    pub fn is_complete(&self) -> bool {
        self.lock().is_complete()
    }

    /// Returns when everything that was taken so far is on disk, or the disk fails.
    pub(super) async fn flush(&self) {
        let _on_disk = self.lkg.flush().await;
    }

    /// Returns when the rows on disk are gone more often than `seen` times; how often.
    pub(super) async fn lost(&self, seen: u64) -> u64 {
        self.lkg.lost(seen).await
    }

    /// The next stream brings the content of everything that is held. Names are still told, so that
    /// what is gone meanwhile is taken away.
    pub(super) fn ask_for_everything(&self) {
        let mut held = self.lock();
        (held.heard, held.told_complete) = (BTreeSet::new(), false);
        // It may still wait for the disk.
        self.lkg.remove(Table::Facts, COMPLETE);
        for version in held.versions.values_mut().flat_map(BTreeMap::values_mut) {
            UNKNOWN.clone_into(version);
        }
    }

    /// What was rejected, and whether the rest takes something away.
    pub(super) fn apply(&self, update: Update) -> (Vec<(String, String)>, bool) {
        let Some(kind) = Kind::of(update.type_url.as_str()) else {
            return (Vec::new(), false);
        };
        let mut items = Vec::with_capacity(update.upserts.len());
        let mut taken = Vec::with_capacity(update.upserts.len());
        let mut rejected = Vec::new();
        for resource in update.upserts {
            match intake::parse(kind, &resource) {
                Ok(item) => {
                    items.push(item);
                    taken.push(resource);
                }
                Err(reason) => rejected.push((resource.name().to_string(), reason)),
            }
        }
        let mut removals = update.removals;
        if matches!(kind, Kind::Entitlement | Kind::Credential) {
            // What cannot be read may say that somebody is no longer entitled.
            removals.extend(rejected.iter().map(|(name, _)| name.clone()));
        }
        let tightens = tightens(kind, &removals, &items);
        self.take(kind, items, removals.clone(), &rejected);
        self.record(kind, taken, removals, update.more);
        let words = rejected.into_iter().map(|(name, rejected)| (name, rejected.reason));
        (words.collect(), tightens)
    }

    fn take(
        &self,
        kind: Kind,
        items: Vec<Item>,
        removals: Vec<String>,
        rejected: &[(String, Rejected)],
    ) {
        for (name, rejected) in rejected {
            tracing::warn!(?kind, %name, reason = %rejected.reason, "cannot take a resource");
        }
        if kind == Kind::Publish {
            let held = self.fleet.size().publishes;
            if held >= SHRINKING && removals.len() * 2 > held {
                tracing::warn!(
                    held,
                    removed = removals.len(),
                    "the control plane takes away most publishes"
                );
            }
        }
        let removals: Vec<_> = removals.into_iter().map(|name| (kind, name)).collect();
        if matches!(kind, Kind::Entitlement | Kind::Credential) {
            return self.fleet.enforce(&items, &removals);
        }
        let of_publishes = if kind == Kind::Publish { rejected.to_vec() } else { Vec::new() };
        self.fleet.change(items, removals, of_publishes);
    }

    /// Only what has been applied counts as held. A kind has been heard when the last part of its
    /// first answer came: with less, hosts would be served as unknown.
    fn record(&self, kind: Kind, taken: Vec<Resource>, removals: Vec<String>, more: bool) {
        let url = kind.type_url();
        let mut held = self.lock();
        let of_kind = held.versions.entry(kind).or_default();
        for name in removals {
            of_kind.remove(&name);
            self.lkg.remove(Table::Resources, lkg::key(&url, &name));
        }
        for resource in taken {
            self.lkg.put(
                Table::Resources,
                lkg::key(&url, resource.name()),
                lkg::row(&url, &resource),
            );
            of_kind.insert(resource.name().to_string(), resource.version().to_string());
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
        self.heard.len() == Kind::ALL.len()
    }
}

/// Whether it takes something away from somebody: that must be on disk before the control plane hears
/// that it is so.
fn tightens(kind: Kind, removals: &[String], items: &[Item]) -> bool {
    let tighter = |item: &Item| match item {
        Item::Credential(credential) => !credential.is_active(),
        Item::Entitlement(entitlement) => !entitlement.is_unlimited_in_time(),
        Item::Publish(publish) => publish.access.suspended,
        Item::Gateway(_) => false,
    };
    (kind != Kind::Gateway && !removals.is_empty()) || items.iter().any(tighter)
}

/// The holdings, as the delta client sees them.
pub(super) struct Stream {
    holdings: Arc<Holdings>,
    session: Arc<Session>,
    /// What was taken last must be on disk before it is acknowledged.
    must_be_kept: AtomicBool,
    /// Where publishes are parsed and rendered.
    workshop: Workshop,
}

impl Stream {
    pub(super) fn new(holdings: Arc<Holdings>, session: Arc<Session>) -> Self {
        let workshop = Workshop::start(holdings.clone());
        Self { holdings, session, must_be_kept: AtomicBool::new(false), workshop }
    }

    /// Nothing of a former stream is taken from now on, and nothing of it is under way.
    pub(super) async fn settled(&self) {
        self.workshop.settled().await;
    }
}

impl Subscriber for Stream {
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)> {
        let Some(kind) = Kind::of(type_url.as_str()) else { return Vec::new() };
        let held = self.holdings.lock();
        let versions = held.versions.get(&kind).into_iter().flatten();
        versions.map(|(name, version)| (name.clone(), version.clone())).collect()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        let (rejected, tightens) = self.holdings.apply(update);
        self.must_be_kept.store(tightens, Ordering::Release);
        rejected
    }

    fn apply_elsewhere(&self, update: Update) -> Result<Rejections, Update> {
        match Kind::of(update.type_url.as_str()) {
            // Both are rendered under one lock.
            Some(Kind::Gateway | Kind::Publish) => Ok(self.workshop.take(update)),
            Some(Kind::Entitlement | Kind::Credential) | None => Err(update),
        }
    }

    fn kept(&self) -> Option<BoxFuture<'static, ()>> {
        let needed = self.must_be_kept.swap(false, Ordering::AcqRel);
        let lkg = self.holdings.lkg.clone();
        // While the disk fails it is acknowledged all the same: to be told nothing more would be
        // worse. The metric imp_lkg_failing says so.
        let kept = async move {
            let _on_disk = lkg.flush_access().await;
        };
        needed.then(|| Box::pin(kept) as BoxFuture<'static, ()>)
    }

    fn connected(&self, connected: bool) {
        self.session.connected(connected);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_world_that_comes_in_parts_is_not_served_before_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let (lkg, _) = Lkg::open(directory.path()).unwrap();
        let cancel = CancellationToken::new();
        let fleet = Fleet::empty(lkg.clone(), cancel.clone());
        let holdings = Holdings::new(fleet.clone(), lkg.clone(), Vec::new(), false);
        let tell = |kind: Kind, more| {
            let type_url = TypeUrl::from(kind.type_url());
            holdings.apply(Update { type_url, upserts: Vec::new(), removals: Vec::new(), more });
        };
        for kind in Kind::ALL {
            tell(kind, kind == Kind::Publish);
        }
        assert!(!holdings.is_complete() && !fleet.is_open(), "more publishes are to come");
        tell(Kind::Publish, true);
        assert!(!fleet.is_open());
        tell(Kind::Publish, false);
        assert!(holdings.is_complete() && fleet.is_open());
        cancel.cancel();
        lkg.close();
    }
}
