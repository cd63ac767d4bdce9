//! The file that the module starts from: what the agent knew when it wrote it, so that an Envoy that
//! starts without an agent serves at once.
//!
//! `IMPSNAP1`, frames of [`Update`]s that are one snapshot, an empty frame, the SHA-256 of everything
//! before. A file that is not whole is not used at all. It holds hashes of keys, no key.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::feed::message::Update;
use crate::feed::{Applier, frame};
use crate::state::State;

const MAGIC: &[u8; 8] = b"IMPSNAP1";

/// The largest file.
const MOST: u64 = 4 << 30;

/// Writes the file. Nothing is there under its name before [`Self::finish`].
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    draft: PathBuf,
    out: Hashed<BufWriter<File>>,
}

impl Writer {
    /// Begins a file, which only its owner may read.
    pub fn create(path: &Path) -> io::Result<Self> {
        let draft = path.with_extension("new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let mut out = Hashed { inner: BufWriter::new(file?), hash: Sha256::new() };
        out.write_all(MAGIC)?;
        Ok(Self { path: path.to_owned(), draft, out })
    }

    /// Adds a part; all but the last say that more follow.
    pub fn update(&mut self, update: &Update) -> io::Result<()> {
        frame::write(&mut self.out, update)
    }

    /// Ends the file and puts it in place.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 4])?;
        let digest = self.out.hash.finalize_reset();
        self.out.write_all(&digest)?;
        self.out.flush()?;
        self.out.inner.get_ref().sync_all()?;
        fs::rename(&self.draft, &self.path)
    }
}

/// Reads the file into the state. Returns the applier that continues from it.
pub(crate) fn load(path: &Path, state: &Arc<State>) -> io::Result<Applier> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MOST {
        return Err(io::Error::other("the file is too large"));
    }
    let mut input = Hashed { inner: BufReader::with_capacity(1 << 20, file), hash: Sha256::new() };
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::Error::other("not a snapshot"));
    }
    let mut updates = Vec::new();
    loop {
        let bytes = frame::read_bytes(&mut input)?;
        if bytes.is_empty() {
            break;
        }
        updates.push(frame::decode::<Update>(&bytes)?);
    }
    let expected = input.hash.finalize_reset();
    let mut digest = [0; 32];
    input.read_exact(&mut digest)?;
    if digest != *expected {
        return Err(io::Error::other("the file is damaged"));
    }
    let mut applier = Applier::new(state.clone());
    let mut version = None;
    for update in updates {
        version = applier.apply(update).map_err(io::Error::other)?;
    }
    version.map(|_| applier).ok_or_else(|| io::Error::other("the snapshot has no end"))
}

/// Hashes what passes.
#[derive(Debug)]
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
