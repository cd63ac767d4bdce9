//! A file mapped into memory, as numbers of 64 bits.
#![expect(unsafe_code, reason = "mmap, whose memory the file's readers see")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens or creates a file that this process alone writes; `None` if another holds it. Only the
/// owner may write it; the agent's group may read it.
pub(super) fn hold(path: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The mapping. Its address space is reserved for the largest file, so that it never moves.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<AtomicU64>,
    reserved: usize,
    /// Bytes that the file has. Beyond, an access would be a signal that ends the process.
    length: AtomicU64,
    /// Holds the lock.
    file: File,
}

// SAFETY: the memory is used as atomic numbers only, and lives as long as the mapping.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file of at least `length` bytes, which may grow to `most`. The blocks are reserved: a
    /// store into a hole of a full disk would be a signal, too.
    pub(super) fn new(file: File, length: u64, most: u64) -> io::Result<Self> {
        allocate(&file, length)?;
        let reserved = usize::try_from(most).map_err(io::Error::other)?;
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), reserved, access, shared, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("no address"))?;
        Ok(Self { start, reserved, length: AtomicU64::new(length), file })
    }

    /// Makes the file larger.
    pub(super) fn grow(&self, length: u64) -> io::Result<()> {
        if length > self.reserved as u64 {
            return Err(io::Error::other("larger than what is reserved"));
        }
        allocate(&self.file, length)?;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// The number at this offset, a multiple of 8; `None` beyond the file.
    pub(super) fn number(&self, offset: u64) -> Option<&AtomicU64> {
        let inside = offset.is_multiple_of(8) && offset < self.length.load(Ordering::Acquire);
        let index = usize::try_from(offset / 8).ok().filter(|_| inside)?;
        // SAFETY: inside of the mapping and of the file, whose length is a multiple of 8, and
        // aligned: the mapping begins with a page.
        Some(unsafe { self.start.add(index).as_ref() })
    }
}

/// Reserves the blocks of a file.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the descriptor of an open file.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.reserved) };
    }
}
