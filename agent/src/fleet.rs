//! The side to Envoy: the agent's resources become resource sets, and Envoys' answers become
//! statuses.
//!
//! One lock (`Core`) guards everything that must be consistent: the assembly, the statuses, what is staged for the
//! resource sets. It is held while one change is rendered, or one portion of Envoys' answers is handled, never across
//! an await; threads that wait for it get it in turn; a runtime worker that waits for it first hands over its tasks.
//! The link's worker takes it for publishes; keys and entitlements go to the engine without it. Events come from
//! Envoys' streams, which must not wait, through a queue and one thread.

mod acknowledgements;
mod core;
mod door;
mod drifts;
mod fallback;
mod gateway_api;
mod gateway_resources;
mod hosts;
mod leads;
mod observer;
mod paths;
mod proof;
mod refused_gateways;
mod restore;
mod rules;
mod streams;
pub mod tracker;
mod verdicts;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use imp_enforce::Engine;
use imp_proto::agent as pb;
use imp_proto::config::ResourceType;
use imp_translate::Options;
use imp_xds::{AdsServer, Resource, TypeUrl};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::core::Core;
use crate::intake::{Item, Rejected};
use crate::lkg::{Lkg, Loaded};
use crate::module::{self, Feed};
pub use door::{Choice, Doors, Why};
pub use drifts::Drift;
pub use gateway_api::GatewayApiOrder;
use gateway_resources::GatewayResources;
pub use leads::{ChangedHost, Led, NotLed, Stands, Wanted};
use observer::{EnvoyEvent, EnvoyObserver, Refusers};
pub use restore::{Restored, Whole};

/// The Envoys of a cluster. Clones share one fleet.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    core: Mutex<Core>,
    /// Locked while waiting for `core`, so that a thread that takes it again and again does not keep
    /// out the others.
    turn: Mutex<()>,
    gateway_resources: GatewayResources,
    ads: AdsServer,
    news: News,
    /// Shared with [`Core`], so that changes for decisions only need not wait for its lock.
    engine: Engine,
    decides: AtomicBool,
    refusers: Refusers,
    /// Whether scopes wait for modules.
    leaving: Arc<AtomicBool>,
    /// What modules inside Envoys hear.
    feed: Option<Feed>,
    doors: Doors,
}

/// Wakes the reporters.
#[derive(Debug)]
pub(crate) struct News {
    /// Some publish has another status.
    pub(crate) statuses: watch::Sender<()>,
    /// The set of refused gateways has changed.
    pub(crate) gateways: watch::Sender<()>,
    /// An Envoy connected or disconnected.
    pub(crate) nodes: watch::Sender<()>,
}

/// Counts for status and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Gateways held.
    pub gateways: usize,
    /// Publishes held.
    pub publishes: usize,
    /// Envoys connected.
    pub nodes: usize,
}

impl Fleet {
    /// An empty, closed fleet: Envoys are refused until [`Self::open`]. Its task ends with
    /// `cancel`.
    pub fn start(options: Options, engine: Engine, lkg: Lkg, cancel: CancellationToken) -> Self {
        Self::feeding(options, engine, lkg, (None, Doors::without(None)), cancel)
    }

    /// The same; modules hear over the feed what the engine is told, where they are chosen.
    pub fn feeding(
        options: Options,
        engine: Engine,
        lkg: Lkg,
        (feed, doors): (Option<Feed>, Doors),
        cancel: CancellationToken,
    ) -> Self {
        let gateway_resources = GatewayResources::default();
        let (events, queue) = mpsc::unbounded_channel();
        let refusers = Refusers::default();
        let observer = Arc::new(EnvoyObserver {
            gateway_resources: gateway_resources.clone(),
            events,
            refusers: refusers.clone(),
            doors: doors.clone(),
        });
        let ads = AdsServer::new(gateway_resources::server_config(), observer.clone(), observer);
        let [statuses, gateways, nodes] = [(); 3].map(watch::Sender::new);
        let news = News { statuses, gateways, nodes };
        let parts = (options, engine.clone(), feed.clone());
        let core = Core::new(parts, lkg, gateway_resources.clone(), doors.clone());
        let leaving = core.hosts.leaving();
        let fleet = Self {
            shared: Arc::new(Shared {
                core: Mutex::new(core),
                turn: Mutex::default(),
                gateway_resources,
                ads,
                news,
                engine,
                decides: AtomicBool::new(false),
                refusers,
                leaving,
                feed,
                doors,
            }),
        };
        fleet.clone().listen_on_a_thread(queue, cancel);
        fleet
    }

    /// Handles Envoys' answers on a thread of its own: they can cause a lot of rendering, and a
    /// runtime worker that computes does not poll its sockets, so a revocation would wait.
    fn listen_on_a_thread(
        self,
        queue: mpsc::UnboundedReceiver<EnvoyEvent>,
        cancel: CancellationToken,
    ) {
        // If this thread ends, the agent must restart.
        let ends = cancel.clone().drop_guard();
        let listen = move || {
            let _ends = ends;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(listen(self, queue, cancel));
            Ok::<_, std::io::Error>(())
        };
        let started = std::thread::Builder::new().name("fleet".to_owned()).spawn(move || {
            if let Err(error) = listen() {
                tracing::error!(%error, "the fleet's thread cannot run");
            }
        });
        if let Err(error) = started {
            // The guard that moved into it is dropped, which ends the agent.
            tracing::error!(%error, "the fleet's thread cannot be started");
        }
    }

    /// Restores from disk what decisions need.
    pub fn restore_access(&self, loaded: &mut Loaded) -> Whole {
        restore::load_access(&self.shared.engine, self.shared.feed.as_ref(), loaded)
    }

    /// Restores the rest. Returns what could be read. Blocks.
    pub fn restore(&self, whole: Whole, loaded: &mut Loaded) -> Vec<Restored> {
        let mut core = self.lock();
        let restored = core.restore(whole, loaded);
        core.settle();
        self.shared.refusers.restore(core.refusers());
        restored
    }

    /// From now on calls are decided; Envoys may still wait for their configuration.
    pub fn decide(&self) {
        self.shared.decides.store(true, Ordering::Release);
    }

    /// Whether calls are decided.
    pub fn decides(&self) -> bool {
        self.shared.decides.load(Ordering::Acquire)
    }

    /// From now on Envoys are served.
    pub fn open(&self) {
        self.decide();
        // The module's file is there before an Envoy is told of the module.
        if let Some(feed) = &self.shared.feed {
            aside(|| module::open(feed));
        }
        // Locked before any Envoy is admitted, so that none is served an incomplete resource set.
        let mut core = self.lock();
        self.shared.gateway_resources.open();
        core.commit();
        core.mark_proven();
    }

    /// Whether Envoys are served.
    pub fn is_open(&self) -> bool {
        self.shared.gateway_resources.is_open()
    }

    /// Takes only the entitlements and credentials among these. They concern decisions alone, so
    /// they wait for no rendering: a key is revoked even while a large publish is on its way to
    /// Envoy. `resources` are those of the items.
    pub fn enforce(
        &self,
        upserts: &[Item],
        resources: &[Resource],
        removals: &[(ResourceType, String)],
    ) {
        self.feed(upserts, resources, removals);
        let engine = &self.shared.engine;
        for item in upserts {
            match item {
                Item::Entitlement(entitlement) => engine.put_entitlement(entitlement.clone()),
                Item::Credential(credential) => engine.put_credential(credential.clone()),
                Item::Gateway(_) | Item::Publish(_) => {}
            }
        }
        for (kind, id) in removals {
            match kind {
                ResourceType::Entitlement => engine.remove_entitlement(id),
                ResourceType::Credential => engine.remove_credential(id),
                ResourceType::Gateway | ResourceType::Publish => {}
            }
        }
    }

    fn feed(&self, upserts: &[Item], resources: &[Resource], removals: &[(ResourceType, String)]) {
        let Some(feed) = &self.shared.feed else { return };
        for (kind, id) in removals {
            feed.remove(*kind, [id.as_str()].into_iter());
        }
        for (item, resource) in upserts.iter().zip(resources) {
            let kind = match item {
                Item::Entitlement(_) => ResourceType::Entitlement,
                Item::Credential(_) => ResourceType::Credential,
                Item::Gateway(_) | Item::Publish(_) => continue,
            };
            feed.put(kind, [(&**resource.name(), resource.value())].into_iter());
        }
    }

    /// Whether all Envoys have the module, so that wildcards are served by each.
    pub fn has_module(&self) -> bool {
        self.shared.doors.all_have_module()
    }

    /// Waits until all modules that listen decide by what was taken so far.
    pub async fn fed(&self) {
        if let Some(feed) = &self.shared.feed {
            feed.applied().await;
        }
    }

    /// Takes changes of gateways and publishes that arrived together; they become visible together.
    pub fn change(
        &self,
        upserts: Vec<Item>,
        removals: Vec<(ResourceType, String)>,
        rejected: Vec<(ResourceType, String, Rejected)>,
    ) {
        let mut core = self.lock();
        for item in upserts {
            core.put(item);
        }
        for (kind, id) in removals {
            core.remove(kind, &id);
        }
        let (gateways, publishes): (Vec<_>, Vec<_>) =
            rejected.into_iter().partition(|(kind, ..)| *kind == ResourceType::Gateway);
        for (_, id, rejected) in gateways {
            core.reject_gateway(&id, &rejected);
        }
        // Resources are sent first; the status report can wait.
        core.commit();
        core.follow_all();
        for (_, id, rejected) in publishes {
            core.reject(&id, &rejected);
        }
        self.tell(core);
    }

    /// Whether any status not yet taken is a verdict rather than progress.
    pub fn has_verdict(&self) -> bool {
        self.lock().tracker.has_verdict()
    }

    /// Takes at most `most` statuses that changed since they were last taken.
    pub fn take_changed(&self, most: usize) -> Vec<pb::PublishStatus> {
        self.lock().tracker.take_changed(most)
    }

    /// The gateways that are refused, if these are others than were last taken.
    pub fn take_refused_gateways(&self) -> Option<pb::GatewayRefusals> {
        self.lock().refused_gateways.take_changed()
    }

    /// Marks everything as changed, for a new report stream.
    pub fn all_changed(&self) {
        let mut core = self.lock();
        core.tracker.all_changed();
        core.refused_gateways.is_news();
    }

    /// The status of every publish.
    pub fn statuses(&self) -> Vec<pb::PublishStatus> {
        self.lock().tracker.statuses()
    }

    /// The connected Envoys.
    pub fn nodes(&self) -> Vec<pb::heartbeat::Node> {
        let node = |(_, node): (_, &tracker::Target)| pb::heartbeat::Node {
            id: node.id.clone(),
            gateway_id: node.gateway.clone().unwrap_or_default(),
            envoy_version: node.version.clone(),
            connected_at_ms: node.connected_at_ms,
        };
        self.lock().tracker.targets().map(node).collect()
    }

    /// What decides about the calls of each Envoy.
    pub fn doors(&self) -> &Doors {
        &self.shared.doors
    }

    /// How much there is.
    pub fn size(&self) -> Size {
        self.lock().size()
    }

    /// The gRPC service that Envoys connect to.
    pub fn ads(&self) -> AdsServer {
        self.shared.ads.clone()
    }

    pub(crate) fn news(&self) -> &News {
        &self.shared.news
    }

    /// Handles events in portions, between which others get the lock: a change must not wait for
    /// the answers about everything.
    fn happened(&self, events: impl Iterator<Item = EnvoyEvent>) {
        let (mut core, mut size, mut nodes) = (self.lock(), 0, false);
        for event in events {
            nodes |= matches!(event, EnvoyEvent::Came { .. } | EnvoyEvent::Left { .. });
            size += event.size();
            core.happened(event);
            while core.is_behind() || size >= PORTION {
                size = 0;
                core.follow_some();
                self.publish(core);
                core = self.lock();
            }
        }
        self.publish(core);
        if nodes {
            self.shared.news.nodes.send_replace(());
        }
    }

    /// Makes visible what events have changed.
    fn publish(&self, mut core: MutexGuard<'_, Core>) {
        for stream in std::mem::take(&mut core.reopened) {
            gateway_resources::HANG_ON_A_LISTENER
                .iter()
                .for_each(|url| self.shared.ads.resend(stream, &TypeUrl::from(*url)));
        }
        core.commit();
        core.follow_all();
        self.tell(core);
    }

    fn tick(&self) {
        let mut core = self.lock();
        core.tick(&self.shared.ads);
        while core.is_moving() {
            core.move_some();
            self.publish(core);
            core = self.lock();
        }
        self.publish(core);
    }

    fn tell(&self, mut core: MutexGuard<'_, Core>) {
        core.settle();
        let changed = core.tracker.has_changed();
        let gateways = core.refused_gateways.has_changed();
        drop(core);
        if changed {
            self.shared.news.statuses.send_replace(());
        }
        if gateways {
            self.shared.news.gateways.send_replace(());
        }
    }

    // After a panic of another holder the state may lack a part of one change; continuing is better
    // than refusing everyone permanently.
    fn lock(&self) -> MutexGuard<'_, Core> {
        let Shared { core, turn, .. } = &*self.shared;
        let in_turn = || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            core.lock().unwrap_or_else(PoisonError::into_inner)
        };
        match turn.try_lock().map(|_turn| core.try_lock()) {
            Ok(Ok(core)) => core,
            Ok(Err(TryLockError::Poisoned(core))) => core.into_inner(),
            Ok(Err(TryLockError::WouldBlock)) | Err(_) => aside(in_turn),
        }
    }
}

/// Waits without blocking the runtime: another thread takes over the worker's tasks, including the
/// timer and the sockets it may have been polling.
fn aside<T>(wait: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// About how many resources Envoys' answers may concern until others get the lock.
const PORTION: usize = 1024;

/// The most events handled as one batch; events that arrive meanwhile form the next one.
const BATCH: usize = 1024;

/// How often timeouts are checked.
const TICK: Duration = Duration::from_millis(250);

async fn listen(
    fleet: Fleet,
    mut queue: mpsc::UnboundedReceiver<EnvoyEvent>,
    cancel: CancellationToken,
) {
    let mut batch = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut progress = match &fleet.shared.feed {
        Some(feed) => feed.progress(),
        None => watch::Sender::new(()).subscribe(),
    };
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            Ok(()) = progress.changed() => {
                fleet.let_go();
                continue;
            }
            received = queue.recv_many(&mut batch, BATCH) => received,
            _ = ticks.tick() => {
                fleet.tick();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        fleet.happened(batch.drain(..));
    }
}

#[cfg(test)]
impl Fleet {
    /// An empty fleet.
    pub(crate) fn empty(lkg: Lkg, cancel: CancellationToken) -> Self {
        Self::with(Engine::new(), lkg, cancel)
    }

    /// An empty fleet with this engine.
    pub(crate) fn with(engine: Engine, lkg: Lkg, cancel: CancellationToken) -> Self {
        let options = Options {
            bind_address: "127.0.0.1".into(),
            layout: imp_translate::Layout::ScopedRoutes,
            agent_cluster: "agent".into(),
            upstreams: Default::default(),
            door: Default::default(),
            tells_hosts: false,
        };
        Self::start(options, engine, lkg, cancel)
    }

    /// Runs this under the lock, like a long change.
    pub(crate) fn while_locked(&self, run: impl FnOnce()) {
        let _core = self.lock();
        run();
    }
}

#[cfg(test)]
mod tests;
