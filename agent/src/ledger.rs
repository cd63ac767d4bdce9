//! The usage file: every call is counted in it before it is answered.
//!
//! Fixed-size slots, written in place with positioned writes. A write goes to the page cache, which
//! outlives the process: `kill -9` loses nothing. A power failure loses what was not synced, which
//! happens once a second. Not memory-mapped, because that needs `unsafe`, and a full disk would
//! raise a signal instead of an error.
//!
//! Nothing here stops a call. Counts that cannot be written (no space, a failing disk) are kept in
//! memory, reported from there, and written when that is possible again.

mod format;
mod slots;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use imp_enforce::{Pair, Place};

use crate::lkg::aside;
use format::{Header, Slot};
use slots::Slots;

/// The counts on disk. Clones share them.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` if the file cannot be opened.
    file: RwLock<Option<File>>,
    header: Mutex<Header>,
    slots: Mutex<Slots>,
    /// The generation of the counters that slots belong to; see [`Header::generation`].
    generation: AtomicU32,
    /// Whether some counts are in memory only.
    behind: AtomicBool,
    /// Whether some counts are not synced.
    dirty: AtomicBool,
}

/// A stored counter: name, count, and the committed part of the count.
pub type Kept = (String, Pair, Pair);

impl Ledger {
    /// Opens or creates the file in the state directory. A damaged file is moved aside; if single
    /// slots are damaged, the others continue under a new epoch with their uncommitted part.
    pub fn open(state_dir: &Path) -> (Self, Vec<Kept>) {
        let path = state_dir.join("usage.bin");
        let (header, slots, kept) = match format::read(&path) {
            Ok(content) => slots::load(content),
            Err(format::Unusable::Absent) => (Header::begin(), Slots::default(), Vec::new()),
            Err(format::Unusable::Damaged(why)) => {
                let aside = aside::move_aside(&path);
                tracing::error!(path = %path.display(), ?aside, why, "THE USAGE FILE IS DAMAGED: it is moved aside; calls that were not told yet are not billed");
                (Header::begin(), Slots::default(), Vec::new())
            }
            Err(format::Unusable::Refused(error)) => {
                tracing::error!(path = %path.display(), %error, "the usage file cannot be read; counts begin again");
                (Header::begin(), Slots::default(), Vec::new())
            }
        };
        let generation = AtomicU32::new(header.generation);
        let shared = Shared {
            path,
            file: RwLock::new(None),
            header: Mutex::new(header),
            slots: Mutex::new(slots),
            generation,
            behind: AtomicBool::new(true),
            dirty: AtomicBool::new(false),
        };
        let ledger = Self { shared: Arc::new(shared) };
        if let Err(error) = ledger.begin(&kept) {
            tracing::error!(path = %ledger.shared.path.display(), %error, "calls are counted in memory only; the usage file is tried again");
        }
        (ledger, kept)
    }

    /// Opens the file and rewrites what was read for this generation.
    fn begin(&self, kept: &[Kept]) -> std::io::Result<()> {
        let file = format::open(&self.shared.path, false)?;
        file.write_all_at(&self.header().encode(), 0)?;
        self.set_file(Some(file));
        self.shared.behind.store(false, Ordering::Release);
        let damaged = self.slots().take_damaged();
        damaged.into_iter().for_each(|place| self.write(place, &[0; format::SLOT], 0));
        let generation = self.generation();
        let places: Vec<_> = {
            let mut slots = self.slots();
            let stale = slots.take_stale();
            kept.iter().filter_map(|(name, ..)| slots.find(name).filter(|_| stale)).collect()
        };
        for ((name, count, committed), place) in kept.iter().zip(places) {
            let slot = Slot { name, count: *count, committed: *committed, generation };
            self.write(place, &slot.encode(), 0);
        }
        Ok(())
    }

    /// The epoch of the counters: the control plane sums over epochs.
    pub fn epoch(&self) -> String {
        self.header().epoch.to_string()
    }

    /// The number of the last batch.
    pub fn sequence(&self) -> u64 {
        self.header().sequence
    }

    /// Stores the number of the last batch.
    pub fn keep_sequence(&self, sequence: u64) {
        let mut header = self.header();
        header.sequence = sequence;
        self.write_header(&header);
    }

    /// Records the agent's id. Returns true if the counts were another agent's.
    pub fn owned_by(&self, agent: &str) -> bool {
        let mut header = self.header();
        let before = std::mem::replace(&mut header.agent, format::check(agent.as_bytes()));
        self.write_header(&header);
        before != 0 && before != header.agent
    }

    /// Whether some counts are in memory only.
    pub fn is_behind(&self) -> bool {
        self.shared.behind.load(Ordering::Acquire)
    }

    /// Repairs the file: creates it again if it is gone or was never open, and has all counts
    /// written to it. Blocks.
    pub fn heal(&self, bring_all: impl FnOnce()) {
        if !self.is_behind() && !self.is_gone() {
            return;
        }
        let healed = self.mend(bring_all);
        match healed {
            Ok(()) if !self.is_behind() => {
                tracing::warn!(path = %self.shared.path.display(), "the usage file has every count again");
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "the usage file cannot be written yet");
                self.set_file(None);
                self.shared.behind.store(true, Ordering::Release);
            }
        }
    }

    fn mend(&self, bring_all: impl FnOnce()) -> std::io::Result<()> {
        let path = &self.shared.path;
        let gone = self.is_gone();
        self.shared.behind.store(false, Ordering::Release);
        if !gone {
            bring_all();
            return Ok(());
        }
        // Under a temporary name until every count is in it.
        let draft = path.with_extension("bin.new");
        self.make(&draft)?;
        bring_all();
        std::fs::rename(draft, path)
    }

    fn make(&self, draft: &Path) -> std::io::Result<()> {
        let file = format::open(draft, true)?;
        file.write_all_at(&self.header().encode(), 0)?;
        let generation = self.generation();
        let slots = self.slots();
        let zeros = vec![0; slots.capacity() as usize * format::SLOT];
        file.write_all_at(&zeros, format::offset(Place(0)))?;
        for (name, place) in slots.names() {
            let slot = Slot { name, count: [0, 0], committed: [0, 0], generation };
            file.write_all_at(&slot.encode(), format::offset(place))?;
        }
        self.set_file(Some(file));
        Ok(())
    }

    fn set_file(&self, file: Option<File>) {
        *self.shared.file.write().unwrap_or_else(PoisonError::into_inner) = file;
    }

    fn is_gone(&self) -> bool {
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_ref().and_then(|file| file.metadata().ok()) else { return true };
        let named = std::fs::metadata(&self.shared.path).ok();
        named.is_none_or(|named| (named.dev(), named.ino()) != (open.dev(), open.ino()))
    }

    /// Syncs the file to disk, against power failures. Blocks. Returns false if that failed.
    pub fn sync(&self) -> bool {
        if !self.shared.dirty.swap(false, Ordering::AcqRel) {
            return !self.is_behind();
        }
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        let synced = file.as_ref().is_some_and(|file| file.sync_data().is_ok());
        if !synced {
            self.shared.behind.store(true, Ordering::Release);
        }
        synced && !self.is_behind()
    }

    /// Frees names that have no counter and are over.
    pub fn sweep(&self, is_over: impl Fn(&str, Pair) -> bool) {
        let idle = self.slots().idle();
        for (name, place) in idle {
            if is_over(&name, self.read(place)) {
                imp_enforce::Ledger::free(self, place);
            }
        }
    }

    fn write(&self, place: Place, bytes: &[u8], at: u64) {
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        let written =
            file.as_ref().map(|file| file.write_all_at(bytes, format::offset(place) + at));
        self.shared.dirty.store(true, Ordering::Release);
        if !matches!(written, Some(Ok(()))) {
            self.shared.behind.store(true, Ordering::Release);
        }
    }

    fn read(&self, place: Place) -> Pair {
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        let mut slot = [0; format::SLOT];
        let read = file.as_ref().map(|file| file.read_exact_at(&mut slot, format::offset(place)));
        match read {
            Some(Ok(())) => format::count(&slot, self.generation()).unwrap_or_default(),
            _ => [0, 0],
        }
    }

    fn write_header(&self, header: &Header) {
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        let written = file.as_ref().map(|file| file.write_all_at(&header.encode(), 0));
        self.shared.dirty.store(true, Ordering::Release);
        if !matches!(written, Some(Ok(()))) {
            self.shared.behind.store(true, Ordering::Release);
        }
    }

    /// Adds slots. Returns false if the disk has no space for them.
    fn grow(&self, slots: &mut Slots) -> bool {
        let Some(more) = slots.next_size() else { return false };
        let (from, to) = (slots.capacity(), more);
        let file = self.shared.file.read().unwrap_or_else(PoisonError::into_inner);
        // Written, not only extended, so that later writes to it need no space.
        let zeros = vec![0; (to - from) as usize * format::SLOT];
        let grown = file
            .as_ref()
            .is_some_and(|file| file.write_all_at(&zeros, format::offset(Place(from))).is_ok());
        drop(file);
        if grown {
            slots.set_capacity(to);
            let mut header = self.header();
            header.slots = to;
            self.write_header(&header);
        }
        grown
    }

    fn generation(&self) -> u32 {
        self.shared.generation.load(Ordering::Acquire)
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        self.shared.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl imp_enforce::Ledger for Ledger {
    fn place(&self, name: &str) -> Option<(Place, Pair)> {
        if name.len() > format::NAME {
            return None;
        }
        let mut slots = self.slots();
        if let Some(place) = slots.hold(name) {
            return Some((place, self.read(place)));
        }
        if slots.is_full() && !self.grow(&mut slots) {
            self.shared.behind.store(true, Ordering::Release);
            return None;
        }
        let place = slots.take(name)?;
        let slot = Slot { name, count: [0, 0], committed: [0, 0], generation: self.generation() };
        self.write(place, &slot.encode(), 0);
        Some((place, [0, 0]))
    }

    fn keep(&self, place: Place, count: Pair) {
        self.write(place, &format::record(count, self.generation()), format::COUNT);
    }

    fn keep_committed(&self, place: Place, count: Pair) {
        self.write(place, &format::record(count, self.generation()), format::COMMITTED);
    }

    fn rebase(&self) {
        let mut header = self.header();
        *header = Header { agent: header.agent, sequence: header.sequence, ..header.next() };
        // The header first: slots of the old generation are converted when they are read.
        self.write_header(&header);
        self.shared.generation.store(header.generation, Ordering::Release);
    }

    fn release(&self, place: Place) {
        self.slots().release(place);
    }

    fn free(&self, place: Place) {
        let mut slots = self.slots();
        self.write(place, &[0; format::SLOT], 0);
        slots.free(place);
    }
}
