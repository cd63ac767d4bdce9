//! What modules must know, with a version, and what has changed since one.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use imp_enforce::PublishAccess;
use imp_module::feed::message::{Host, Item, Kind, Named, Rules, Update};
use imp_proto::config::{self as pb, ResourceType};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes that are remembered: a module that is further behind gets everything.
const REMEMBERED: usize = 1 << 16;

/// The most items and bytes of one message.
const ITEMS: usize = 4096;
const BYTES: usize = 1 << 20;

/// The largest item. A message of the feed may be larger, but not much.
const LARGEST: usize = 8 << 20;

/// How long a change waits for modules before it is acknowledged without them.
const PATIENCE: Duration = Duration::from_secs(5);

/// What modules must know. Clones share it.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: PathBuf,
    /// The version in the file; locked while it is written.
    written: Mutex<Option<u64>>,
    state: Mutex<State>,
    /// Something has changed, or all is there.
    news: watch::Sender<()>,
    /// A module has applied a version, or is gone.
    progress: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Versions of another run of this agent cannot be compared.
    history: String,
    version: u64,
    /// Whether everything is there; before that, nobody is told anything.
    open: bool,
    /// Encoded items.
    held: HashMap<Named, Bytes>,
    /// What made the last versions, the latest last.
    changes: VecDeque<Named>,
    modules: BTreeMap<u64, Connected>,
    next: u64,
    /// Hours that ended before are reported (Unix milliseconds).
    forget: Option<i64>,
}

/// A module that listens.
#[derive(Debug)]
struct Connected {
    applied: u64,
    hang_up: CancellationToken,
}

/// What a module is told next.
#[derive(Debug)]
pub(super) enum Next {
    Everything { version: u64, items: Vec<Bytes> },
    Change(Update),
    Nothing,
}

impl Feed {
    /// An empty one, which writes its file there.
    pub fn new(snapshot: PathBuf) -> Self {
        let history = uuid::Uuid::now_v7().to_string();
        let state = Mutex::new(State { history, version: 1, ..State::default() });
        let [news, progress] = [(); 2].map(watch::Sender::new);
        Self {
            shared: Arc::new(Shared { snapshot, written: Mutex::default(), state, news, progress }),
        }
    }

    /// Takes entitlements and credentials as the control plane sent them. Others are not of its kind.
    pub(crate) fn put<'a>(
        &self,
        kind: ResourceType,
        all: impl Iterator<Item = (&'a str, &'a Bytes)>,
    ) {
        let read = |bytes: &Bytes| match kind {
            ResourceType::Entitlement => {
                pb::Entitlement::decode(bytes.clone()).ok().map(Kind::Entitlement)
            }
            ResourceType::Credential => {
                pb::Credential::decode(bytes.clone()).ok().map(Kind::Credential)
            }
            ResourceType::Gateway | ResourceType::Publish => None,
        };
        let mut state = self.lock();
        for (id, bytes) in all {
            if let Some(name) = named(kind, id) {
                state.set(name, read(bytes));
            }
        }
        self.tell(state);
    }

    /// Removes some.
    pub(crate) fn remove<'a>(&self, kind: ResourceType, ids: impl Iterator<Item = &'a str>) {
        let mut state = self.lock();
        ids.filter_map(|id| named(kind, id)).for_each(|name| state.set(name, None));
        self.tell(state);
    }

    /// Takes the rules of a publish, as the engine does.
    pub(crate) fn put_rules<'a>(
        &self,
        wanted: &PublishAccess,
        former: impl Iterator<Item = &'a PublishAccess>,
    ) {
        let id = wanted.publish_id().to_string();
        let json = |access: &PublishAccess| serde_json::to_vec(access).unwrap_or_default();
        let former = former.map(json).collect();
        let rules = Rules { id: id.clone(), wanted: json(wanted), former };
        let mut state = self.lock();
        state.set(Named::Publish(id), Some(Kind::Rules(rules)));
        self.tell(state);
    }

    pub(crate) fn remove_publish(&self, id: &str) {
        let mut state = self.lock();
        state.set(Named::Publish(id.to_owned()), None);
        self.tell(state);
    }

    /// A host has a scope that Envoys have, or no wildcard may take it.
    pub(crate) fn put_host(&self, port: u16, pattern: &str) {
        let host = Host { port: port.into(), pattern: pattern.to_owned() };
        let mut state = self.lock();
        state.set(Named::Host(host.clone()), Some(Kind::Host(host)));
        self.tell(state);
    }

    /// Forgets a host. Returns false if it was not known.
    pub(crate) fn remove_host(&self, port: u16, pattern: &str) -> bool {
        let name = Named::Host(Host { port: port.into(), pattern: pattern.to_owned() });
        let mut state = self.lock();
        let was_known = state.held.contains_key(&name);
        state.set(name, None);
        self.tell(state);
        was_known
    }

    pub(crate) fn has_host(&self, port: u16, pattern: &str) -> bool {
        let host = Host { port: port.into(), pattern: pattern.to_owned() };
        self.lock().held.contains_key(&Named::Host(host))
    }

    /// The version that has all that was put and removed so far.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Whether all modules that listen have applied this version.
    pub(crate) fn has_reached(&self, version: u64) -> bool {
        self.behind(version) == 0
    }

    /// Tells that a module has applied a version, or is gone.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.shared.progress.subscribe()
    }

    /// Everything is there: from now on modules are told. Returns false if they were already.
    pub(super) fn open(&self) -> bool {
        let mut state = self.lock();
        let was_open = std::mem::replace(&mut state.open, true);
        self.tell(state);
        !was_open
    }

    /// Hours that ended before this time are reported.
    pub(crate) fn forget(&self, before_ms: i64) {
        let mut state = self.lock();
        if state.forget.replace(before_ms) != Some(before_ms) {
            self.tell(state);
        }
    }

    /// Waits until all modules that listen have applied what there is. One that does not is hung up
    /// on: it decides by what it has, and gets everything when it is back.
    pub(crate) async fn applied(&self) {
        let (version, mut progress) = (self.lock().version, self.shared.progress.subscribe());
        let all = async { while self.behind(version) > 0 && progress.changed().await.is_ok() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            let state = self.lock();
            let late = state.modules.values().filter(|module| module.applied < version);
            late.for_each(|module| module.hang_up.cancel());
            tracing::error!(
                version,
                "A MODULE DOES NOT TAKE CHANGES: its Envoy decides by former ones"
            );
        }
    }

    /// How many modules that listen have not applied this version.
    fn behind(&self, version: u64) -> usize {
        let state = self.lock();
        state.modules.values().filter(|module| state.open && module.applied < version).count()
    }

    /// A module listens, which has this version of this history. Its number, the version if it can be
    /// continued, and what tells it to go.
    pub(super) fn join(&self, history: &str, version: u64) -> (u64, u64, CancellationToken) {
        let mut state = self.lock();
        let known = history == state.history && version <= state.version;
        let applied = if known { version } else { 0 };
        let (number, hang_up) = (state.next, CancellationToken::new());
        state.next += 1;
        state.modules.insert(number, Connected { applied, hang_up: hang_up.clone() });
        state.measure();
        (number, applied, hang_up)
    }

    pub(super) fn has_applied(&self, number: u64, version: u64) {
        let mut state = self.lock();
        if let Some(module) = state.modules.get_mut(&number) {
            module.applied = version;
        }
        state.measure();
        drop(state);
        self.shared.progress.send_replace(());
    }

    pub(super) fn leave(&self, number: u64) {
        let mut state = self.lock();
        state.modules.remove(&number);
        state.measure();
        drop(state);
        self.shared.progress.send_replace(());
    }

    /// What a module with this version is told next.
    pub(super) fn next(&self, since: u64) -> Next {
        let state = self.lock();
        if !state.open || since == state.version {
            return Next::Nothing;
        }
        match state.changes_since(since) {
            Some(update) => Next::Change(update),
            None => Next::Everything {
                version: state.version,
                items: state.held.values().cloned().collect(),
            },
        }
    }

    pub(super) fn forgotten(&self) -> Option<i64> {
        self.lock().forget
    }

    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.shared.news.subscribe()
    }

    /// The version in the file, for who writes it alone meanwhile.
    pub(super) fn written(&self) -> MutexGuard<'_, Option<u64>> {
        self.shared.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> &std::path::Path {
        &self.shared.snapshot
    }

    /// The parts of a message that has everything.
    pub(super) fn parts(&self, version: u64, items: &[Bytes]) -> impl Iterator<Item = Update> {
        let history = self.lock().history.clone();
        let mut rest = items;
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let mut bytes = 0;
            let fits = |item: &&Bytes| {
                bytes += item.len();
                bytes <= BYTES || bytes == item.len()
            };
            let count = rest.iter().take(ITEMS).take_while(fits).count();
            let (part, others) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = others;
            done = rest.is_empty();
            let put = part.iter().filter_map(|item| Item::decode(item.clone()).ok()).collect();
            let history = history.clone();
            Some(Update { history, version, more: !done, put, ..Update::default() })
        })
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let open = state.open;
        state.measure();
        drop(state);
        if open {
            self.shared.news.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, name: Named, kind: Option<Kind>) {
        let item = kind.map(|kind| Bytes::from(Item::from(kind).encode_to_vec()));
        let item = item.filter(|item| {
            let fits = item.len() <= LARGEST;
            if !fits {
                tracing::error!(?name, "too large for the module: its calls are refused there");
            }
            fits
        });
        let before = match item {
            Some(item) if self.held.get(&name) == Some(&item) => return,
            Some(item) => self.held.insert(name.clone(), item).is_some(),
            None => self.held.remove(&name).is_some(),
        };
        if !before && !self.held.contains_key(&name) {
            return;
        }
        self.version += 1;
        if !self.open {
            return;
        }
        self.changes.push_back(name);
        if self.changes.len() > REMEMBERED {
            self.changes.pop_front();
        }
    }

    /// `None` if that is too long ago. Items are those of now, so that the last message of several
    /// is right, and no former one is wrong for longer than until it comes.
    fn changes_since(&self, since: u64) -> Option<Update> {
        let behind = usize::try_from(self.version.checked_sub(since)?).ok()?;
        let first = self.changes.len().checked_sub(behind).filter(|_| since > 0)?;
        let (mut bytes, mut seen, mut count) = (0, HashSet::new(), 0);
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for name in self.changes.iter().skip(first).take(ITEMS) {
            count += 1;
            if !seen.insert(name) {
                continue;
            }
            match self.held.get(name) {
                Some(item) => {
                    bytes += item.len();
                    put.extend(Item::decode(item.clone()).ok());
                }
                None => remove.push(name.clone().into()),
            }
            if bytes >= BYTES {
                break;
            }
        }
        let history = self.history.clone();
        Some(Update { history, since, version: since + count, more: false, put, remove })
    }

    fn measure(&self) {
        let furthest =
            self.modules.values().map(|module| self.version - module.applied.min(self.version));
        metrics::gauge!("imp_module_connected").set(self.modules.len() as f64);
        metrics::gauge!("imp_module_versions_behind").set(furthest.max().unwrap_or(0) as f64);
    }
}

fn named(kind: ResourceType, id: &str) -> Option<Named> {
    match kind {
        ResourceType::Entitlement => Some(Named::Entitlement(id.to_owned())),
        ResourceType::Credential => Some(Named::Credential(id.to_owned())),
        ResourceType::Gateway | ResourceType::Publish => None,
    }
}

#[cfg(test)]
mod tests;
