//! What the module knows, one for the whole process: all listeners and workers share it, and it
//! stays while Envoy's configuration changes.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use imp_enforce::{Counter, Engine};

use crate::config::{ConfigError, Paths};
use crate::counters::{Counters, Kept};
use crate::feed::{self, Applier};
use crate::hosts::Hosts;
use crate::{envoy, snapshot};

/// The state of the module.
#[derive(Debug, Default)]
pub struct State {
    pub engine: Engine,
    pub hosts: Hosts,
    counters: Option<Arc<Counters>>,
    loaded: AtomicBool,
    /// Faults of the module that were caught.
    pub(crate) faults: AtomicU64,
    /// Makes the next hook panic.
    #[cfg(test)]
    pub(crate) fails: AtomicBool,
}

impl State {
    /// With the counts of the former process.
    fn new(paths: &Paths) -> io::Result<Self> {
        let Some(directory) = &paths.counters else { return Ok(Self::default()) };
        let (counters, kept) = Counters::open(directory)?;
        let engine = Engine::kept_in(counters.clone());
        let counter = |kept: &Kept| Some((Counter::kept(&kept.name, kept.count)?, [0, 0]));
        engine.resume_usage(kept.iter().filter_map(counter).collect());
        Ok(Self { engine, counters: Some(counters), ..Self::default() })
    }

    /// Whether there is something to decide from.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(crate) fn may_fail(&self) {
        assert!(!self.fails.swap(false, Ordering::Relaxed), "told to fail");
    }

    /// Drops unused state.
    pub(crate) fn evict(&self, now: DateTime<Utc>) {
        self.engine.evict_idle(now);
        // What had no place, because the disk was full.
        self.engine.keep_all();
        if let Some(counters) = &self.counters {
            counters.sweep(now);
        }
    }

    /// From now on calls are decided.
    pub(crate) fn open(&self) {
        self.loaded.store(true, Ordering::Release);
    }
}

/// The process's state, and where it is from.
static RUNNING: Mutex<Option<(Paths, Arc<State>)>> = Mutex::new(None);

/// The state of this process; the first caller starts it.
pub(crate) fn shared(paths: &Paths) -> Result<Arc<State>, ConfigError> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    match &*running {
        Some((of, state)) if of == paths => Ok(state.clone()),
        Some((of, _)) => Err(ConfigError::Elsewhere(of.clone())),
        None => {
            let state = start(paths)?;
            *running = Some((paths.clone(), state.clone()));
            Ok(state)
        }
    }
}

/// Blocks while the file is read: listeners open afterwards.
fn start(paths: &Paths) -> Result<Arc<State>, ConfigError> {
    if envoy::is_validation() {
        return Ok(Arc::default());
    }
    let state =
        Arc::new(State::new(paths).map_err(|error| ConfigError::Counters(error.to_string()))?);
    let loaded = paths.snapshot.as_ref().map(|path| snapshot::load(path, &state));
    let applier = match loaded {
        Some(Ok(applier)) => {
            let (history, version) = applier.holds();
            envoy::info(&format!("started from version {version} of {history} in the file"));
            applier
        }
        Some(Err(error)) => {
            envoy::warn(&format!("not started from a file: {error}"));
            Applier::new(state.clone())
        }
        None => Applier::new(state.clone()),
    };
    if let Some(socket) = &paths.feed {
        feed::start(socket.clone(), applier).map_err(ConfigError::Thread)?;
    }
    Ok(state)
}

/// The system's time.
pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
