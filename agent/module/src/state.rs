//! What the module knows, one for the whole process: all listeners and workers share it, and it
//! stays while Envoy's configuration changes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use imp_enforce::{Counter, Engine};

use crate::counters::{Counters, Kept};
use crate::hosts::Hosts;

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
    /// Continues the counts of a former process.
    pub(crate) fn counted_in(directory: &Path) -> io::Result<Self> {
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

/// The system's time.
pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
