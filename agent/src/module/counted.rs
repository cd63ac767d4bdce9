//! The counts of modules, for the usage reports.
//!
//! Each file of counts has an epoch of its own and is reported as it is: counts are cumulative, and
//! the control plane keeps the greatest of an epoch. So it does not matter how often the agent or
//! Envoy dies, nor whether a report comes twice. Only when this agent gets another identity, what was
//! reported under the former one is subtracted from then on.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imp_enforce::{Counter, Pair};
use imp_module::counters;
use serde::{Deserialize, Serialize};

use super::feed::Feed;

/// The counts of all modules that count in a directory. Clones share the progress.
#[derive(Clone, Debug)]
pub struct Counted {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    feed: Feed,
    directory: PathBuf,
    owner: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owner: Owner,
    epochs: HashMap<String, HashMap<String, Told>>,
    /// Whether all files could be read the last time.
    whole: bool,
}

/// Whose counts these are, and what is not theirs, by epoch and name. On disk as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Owner {
    agent: String,
    former: HashMap<String, HashMap<String, Pair>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sent: Pair,
    committed: Pair,
}

/// Epoch and counts of a file.
type FileOfCounts = (String, Vec<(String, Pair)>);

/// The changed counts of one file.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) epoch: String,
    pub(crate) counters: Vec<Counter>,
    told: Vec<(String, Pair)>,
}

impl Batch {
    /// Batches of at most this many counters.
    pub(crate) fn split(self, most: usize) -> impl Iterator<Item = Self> {
        let Self { epoch, mut counters, mut told } = self;
        std::iter::from_fn(move || {
            let rest = counters.split_off(most.min(counters.len()));
            let counters = std::mem::replace(&mut counters, rest);
            let rest = told.split_off(most.min(told.len()));
            let told = std::mem::replace(&mut told, rest);
            (!told.is_empty()).then(|| Self { epoch: epoch.clone(), counters, told })
        })
    }
}

impl Counted {
    /// Those in this directory; `owner` is a file of the agent's. Modules hear over the feed what
    /// they need not count any further.
    pub fn new(directory: PathBuf, owner: PathBuf, feed: Feed) -> Self {
        let known = std::fs::read(&owner).ok();
        let known = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let state = Mutex::new(State { owner: known, ..State::default() });
        Self { shared: Arc::new(Shared { feed, directory, owner, state }) }
    }

    /// Sets the agent's id at the control plane. Counts of another one are not reported again.
    /// Whatever is not known to be reported under the other is not reported at all: nobody pays
    /// twice.
    pub(crate) fn belongs_to(&self, agent: &str) {
        let mut state = self.lock();
        if state.owner.agent == agent {
            return;
        }
        let mut owner = Owner { agent: agent.to_owned(), former: HashMap::new() };
        if !state.owner.agent.is_empty() {
            let files = self.files().unwrap_or_default();
            for (epoch, kept) in files.into_iter().flatten() {
                let told = state.epochs.get(&epoch);
                let former = |(name, count): (String, Pair)| {
                    let committed = told.and_then(|told| told.get(&name)).map(|it| it.committed);
                    (name, committed.unwrap_or(count))
                };
                owner.former.insert(epoch, kept.into_iter().map(former).collect());
            }
        }
        if let Err(error) = keep(&self.shared.owner, &owner) {
            tracing::error!(path = %self.shared.owner.display(), %error, "the owner of the counts cannot be stored");
        }
        state.owner = owner;
        state.epochs.clear();
    }

    /// Begins a stream: what was not acknowledged may be lost.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        let all = state.epochs.values_mut().flat_map(HashMap::values_mut);
        all.for_each(|told| told.sent = told.committed);
    }

    /// What has changed since the last batches. Blocks.
    pub(crate) fn changed(&self) -> Vec<Batch> {
        let files = self.files();
        let mut state = self.lock();
        state.whole = files.as_ref().is_some_and(|files| files.iter().all(Option::is_some));
        let files = files.into_iter().flatten().flatten();
        files
            .map(|(epoch, kept)| state.batch(epoch, kept))
            .filter(|it| !it.told.is_empty())
            .collect()
    }

    /// The control plane has committed this batch.
    pub(crate) fn committed(&self, batch: &Batch) {
        let mut state = self.lock();
        let Some(told) = state.epochs.get_mut(&batch.epoch) else { return };
        for (name, [allowed, limited]) in &batch.told {
            let of = told.entry(name.clone()).or_default();
            of.committed = [of.committed[0].max(*allowed), of.committed[1].max(*limited)];
        }
    }

    /// Whether everything that was read is committed, and everything could be read.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.lock();
        let mut all = state.epochs.values().flat_map(HashMap::values);
        state.whole && all.all(|told| told.sent == told.committed)
    }

    /// All hours that ended before this time are committed.
    pub(crate) fn forget(&self, before_ms: i64) {
        // The next minute is soon enough.
        self.shared.feed.forget(before_ms - before_ms.rem_euclid(60_000));
    }

    /// Epoch and counts of each file, `None` for one that cannot be read; `None` if nothing can.
    fn files(&self) -> Option<Vec<Option<FileOfCounts>>> {
        let entries = match std::fs::read_dir(&self.shared.directory) {
            Ok(entries) => entries,
            // No Envoy has the module yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
            Err(error) => {
                tracing::warn!(%error, "the counts of modules cannot be read");
                return None;
            }
        };
        let read = |path: PathBuf| {
            let read = counters::read(&path);
            let read = read.inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "counts of a module cannot be read");
            });
            let counters::Content { epoch, kept } = read.ok()?;
            let kept = kept.into_iter().map(|kept| (kept.name, kept.count)).collect();
            Some((format!("module-{epoch}"), kept))
        };
        Some(entries.flatten().map(|entry| read(entry.path())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn batch(&mut self, epoch: String, kept: Vec<(String, Pair)>) -> Batch {
        let former = self.owner.former.get(&epoch);
        let known = self.epochs.entry(epoch.clone()).or_default();
        let (mut counters, mut told, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
        for (name, count) in kept {
            let before = known.get(&name).copied().unwrap_or_default();
            let is_news = before.sent != count;
            let not_ours = former.and_then(|former| former.get(&name)).copied().unwrap_or_default();
            let own = [0, 1].map(|of: usize| {
                let at = |pair: &Pair| pair.get(of).copied().unwrap_or_default();
                at(&count).saturating_sub(at(&not_ours))
            });
            // Others are rates and quotas.
            let Some(counter) = Counter::kept(&name, own) else { continue };
            if is_news {
                told.push((name.clone(), count));
                counters.push(counter);
            }
            seen.insert(name, Told { sent: count, ..before });
        }
        // What the module has forgotten is not of interest any more.
        *known = seen;
        Batch { epoch, counters, told }
    }
}

/// Durable, or as it was.
fn keep(path: &Path, owner: &Owner) -> io::Result<()> {
    let draft = path.with_extension("new");
    let file = std::fs::File::create(&draft)?;
    serde_json::to_writer(&file, owner)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests;
