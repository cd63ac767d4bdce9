//! The store on disk: opened, written, and reopened after errors.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::Database;
use thiserror::Error;

use super::file::{self, Fault, Row};
use super::{Loaded, aside};

/// The errors that keep the agent from starting; all other problems with the file are handled.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has the file open.
    #[error("{path} is in use: another imp-agent runs on this state directory (--state-dir)")]
    InUse { path: String },
    /// The writer thread cannot be started.
    #[error("cannot write {path}: {why}")]
    NoThread { path: String, why: String },
}

/// The destination of rows.
pub(super) trait Store: Send {
    /// Writes all rows or none; they are on disk when this returns.
    fn write(&mut self, rows: &[Row]) -> Result<Written, String>;

    /// Whether the last write succeeded.
    fn is_open(&self) -> bool;
}

/// What a write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The file that was written before.
    Same,
    /// A file without the rows written before: their owners must write them again.
    Empty,
}

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    open: Option<Open>,
    /// The number of the last commit whose content is known here. `None` if the file's content is
    /// unknown, so that it must be cleared before the next write.
    known: Option<u64>,
    /// The greatest number ever used.
    number: u64,
}

#[derive(Debug)]
struct Open {
    database: Database,
    inode: (u64, u64),
}

impl Disk {
    /// Opens the file and reads it. A damaged one is moved aside; one that cannot be written is
    /// read all the same, and opened later.
    pub(super) fn start(path: &Path) -> Result<(Self, Loaded), OpenError> {
        let number = read_number(&numbers(path)).unwrap_or(0);
        let mut disk = Self { path: path.to_owned(), open: None, known: None, number };
        let loaded = match disk.load() {
            Err(Fault::Damaged(why)) => {
                disk.move_aside(&why);
                disk.load()
            }
            loaded => loaded,
        };
        match loaded {
            Ok(loaded) => Ok((disk, loaded)),
            Err(Fault::InUse) => Err(OpenError::InUse { path: path.display().to_string() }),
            Err(Fault::Damaged(why) | Fault::Refused(why)) => {
                tracing::error!(path = %path.display(), %why, "the last-known-good cannot be written; it is tried again");
                let loaded = disk.load_copy();
                Ok((disk, loaded))
            }
        }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn load(&mut self) -> Result<Loaded, Fault> {
        let (database, inode) = open(&self.path)?;
        let loaded = file::load(&database);
        self.open = Some(Open { database, inode });
        let loaded = loaded.and_then(|loaded| self.recognise(loaded));
        if loaded.is_err() {
            self.close();
        }
        loaded
    }

    /// Reads the file without opening it for writing; returns nothing if that fails, too.
    fn load_copy(&mut self) -> Loaded {
        let loaded = file::load_copy(&self.path).and_then(|loaded| self.recognise(loaded));
        loaded.unwrap_or_else(|fault| {
            tracing::error!(path = %self.path.display(), why = %fault, "the last-known-good cannot be read");
            Loaded::default()
        })
    }

    /// Rejects an older copy of the file, which would undo revocations.
    fn recognise(&mut self, loaded: Loaded) -> Result<Loaded, Fault> {
        let commit = file::commit_of(&loaded);
        match commit {
            Some(commit) if commit < self.number => {
                let why = format!(
                    "it is an older copy: it ends with write {commit}, and write {} was made",
                    self.number
                );
                return Err(Fault::Damaged(why));
            }
            Some(commit) => self.number = commit,
            None => {}
        }
        self.known = Some(commit.unwrap_or(0));
        Ok(loaded)
    }

    fn move_aside(&mut self, why: &str) {
        self.close();
        self.known = None;
        metrics::counter!("imp_lkg_damaged_total").increment(1);
        match aside::move_aside(&self.path) {
            Ok(kept) => {
                tracing::error!(path = %self.path.display(), kept = %kept.display(), why, "THE LAST-KNOWN-GOOD IS DAMAGED: it is moved aside, and everything is fetched from the control plane again");
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), why, %error, "THE LAST-KNOWN-GOOD IS DAMAGED and cannot be moved aside; that is tried again");
            }
        }
    }

    /// Opens a file whose content is known, or which is about to be cleared.
    fn reopen(&mut self) -> Result<(), Fault> {
        if self.open.as_ref().is_some_and(|open| inode_of(&self.path) != Some(open.inode)) {
            tracing::error!(path = %self.path.display(), "the last-known-good was removed or replaced while it was in use; it is written again");
            self.close();
        }
        if self.open.is_some() {
            return Ok(());
        }
        let opened = match open(&self.path) {
            Err(Fault::Damaged(why)) => {
                self.move_aside(&why);
                open(&self.path)
            }
            opened => opened,
        };
        let (database, inode) = opened?;
        let commit = file::commit_in(&database);
        self.open = Some(Open { database, inode });
        // The last commit may have reached the disk although it was reported as failed.
        let ours = [self.known, self.known.map(|known| known + 1)];
        if !ours.contains(&Some(commit?.unwrap_or(0))) {
            self.known = None;
        }
        Ok(())
    }

    fn commit(&mut self, rows: &[Row]) -> Result<Written, Fault> {
        self.reopen()?;
        let Some(open) = &self.open else { return Err(Fault::Refused("not open".to_owned())) };
        let number = self.number + 1;
        file::write(&open.database, rows, number, self.known.is_none())?;
        let written = if self.known.is_some() { Written::Same } else { Written::Empty };
        (self.known, self.number) = (Some(number), number);
        // Written after the commit, so it never names one that does not exist.
        if let Err(error) = write_number(&numbers(&self.path), number) {
            tracing::debug!(%error, "the number of the last write could not be kept");
        }
        Ok(written)
    }

    /// Closes the file. Closing writes, and a panic in it must not end the thread.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let _words = file::caught(move || {
                drop(open);
                Ok(())
            });
        }
    }
}

impl Store for Disk {
    fn write(&mut self, rows: &[Row]) -> Result<Written, String> {
        let written = self.commit(rows);
        if let Err(fault) = &written {
            // After an I/O error redb refuses everything until it is reopened.
            self.close();
            if let Fault::Damaged(why) = fault {
                self.move_aside(why);
            }
        }
        written.map_err(|fault| fault.to_string())
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

fn open(path: &Path) -> Result<(Database, (u64, u64)), Fault> {
    let database = file::open(path)?;
    let inode = inode_of(path).ok_or_else(|| Fault::Refused("it went away".to_owned()))?;
    Ok((database, inode))
}

fn inode_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A separate file has the number of writes, to detect an older copy of the main file.
fn numbers(path: &Path) -> PathBuf {
    path.with_extension("commit")
}

/// The number is stored with its complement: a torn or damaged one counts as none.
fn read_number(path: &Path) -> Option<u64> {
    let bytes = <[u8; 16]>::try_from(std::fs::read(path).ok()?).ok()?;
    let number = u128::from_be_bytes(bytes);
    let (high, low) = ((number >> 64) as u64, number as u64);
    (high == !low).then_some(high)
}

fn write_number(path: &Path, number: u64) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let both = (u128::from(number) << 64) | u128::from(!number);
    file.write_all_at(&both.to_be_bytes(), 0)
}
