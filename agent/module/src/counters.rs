//! Counts in a file that is mapped into memory: they survive Envoy's death, and the agent reads them.
//!
//! A count is two stores into a page of the file. The page belongs to the kernel, so `kill -9` loses
//! nothing; a power failure loses what was not written back. Each slot holds a count twice and says
//! which of both is right, so that a death between two stores leaves the former count.
//!
//! One process writes a file, with a lock on it. Files are `counters-0.bin`, `counters-1.bin`, ... in
//! a directory: an Envoy continues the first that nobody holds, with its rates and quotas; while two
//! Envoys run side by side (a hot restart) each has its own. The agent adds them up.

mod format;
mod mapping;
mod slots;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use imp_enforce::{Ledger, Pair, Place, is_over};

use format::{FIRST_SLOTS, MAX_SLOTS, NAME, PAGE, SLOT};
use mapping::Mapping;
use slots::Slots;

/// The most files of a directory. Each is of an Envoy that runs.
const FILES: usize = 64;

/// A file of counts that this process writes.
#[derive(Debug)]
pub struct Counters {
    path: PathBuf,
    mapping: Mapping,
    slots: Mutex<Slots>,
}

/// A stored count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub count: Pair,
}

impl Counters {
    /// Continues the first file of the directory that no other process holds, or begins one.
    pub fn open(directory: &Path) -> io::Result<(Arc<Self>, Vec<Kept>)> {
        std::fs::create_dir_all(directory)?;
        for number in 0..FILES {
            let path = directory.join(format!("counters-{number}.bin"));
            let Some(file) = mapping::hold(&path)? else { continue };
            match Self::from(path, file) {
                // Another program's file: the next name is tried.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                opened => return opened,
            }
        }
        Err(io::Error::other(format!("{FILES} other Envoys count in {}", directory.display())))
    }

    fn from(path: PathBuf, file: File) -> io::Result<(Arc<Self>, Vec<Kept>)> {
        let length = file.metadata()?.len();
        let slots = length.saturating_sub(PAGE) / SLOT;
        let slots = u32::try_from(slots).unwrap_or(MAX_SLOTS).clamp(FIRST_SLOTS, MAX_SLOTS);
        let mapping = Mapping::new(file, format::size(slots), format::size(MAX_SLOTS))?;
        format::begin(&mapping)?;
        let (slots, kept) = Slots::read(&mapping, slots);
        Ok((Arc::new(Self { path, mapping, slots: Mutex::new(slots) }), kept))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees counts that nothing uses and that are over.
    pub(crate) fn sweep(&self, now: DateTime<Utc>) {
        let idle = self.slots().idle();
        for (name, place) in idle {
            let over = is_over(&name, format::count(&self.mapping, place), now);
            if over && self.slots().forget_idle(&name) {
                format::clear(&self.mapping, place);
                self.slots().give_back(place);
            }
        }
    }

    /// Adds slots. Returns false if the disk has no space for them.
    fn grow(&self, slots: &mut Slots) -> bool {
        let more = slots.capacity().saturating_mul(2).min(MAX_SLOTS);
        let grown = more > slots.capacity() && self.mapping.grow(format::size(more)).is_ok();
        if grown {
            slots.set_capacity(more);
        }
        grown
    }
}

impl Ledger for Counters {
    fn place(&self, name: &str) -> Option<(Place, Pair)> {
        if name.is_empty() || name.len() > NAME {
            return None;
        }
        let mut slots = self.slots();
        if let Some(place) = slots.hold(name) {
            return Some((place, format::count(&self.mapping, place)));
        }
        if slots.is_full() && !self.grow(&mut slots) {
            return None;
        }
        let place = slots.take(name)?;
        format::put(&self.mapping, place, name);
        Some((place, [0, 0]))
    }

    fn keep(&self, place: Place, count: Pair) {
        format::keep(&self.mapping, place, count);
    }

    // What is committed is the agent's to know, which has no engine here.
    fn keep_committed(&self, _place: Place, _count: Pair) {}

    fn rebase(&self) {}

    fn release(&self, place: Place) {
        self.slots().release(place);
    }

    fn free(&self, place: Place) {
        format::clear(&self.mapping, place);
        self.slots().free(place);
    }
}

/// What is in a file, for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Tells the file from any other that was ever at its path.
    pub epoch: String,
    pub kept: Vec<Kept>,
}

/// The counts of a file, for the agent. Each number is one that was true while this read.
pub fn read(path: &Path) -> io::Result<Content> {
    let mut bytes = Vec::new();
    File::open(path)?.take(format::size(MAX_SLOTS)).read_to_end(&mut bytes)?;
    format::parse(&bytes).ok_or_else(format::foreign)
}

#[cfg(test)]
mod tests;
