//! The file that the module starts from: what the agent knew when it wrote it, so that an Envoy that
//! starts without an agent serves at once.
//!
//! `IMPSNAP1`, frames of [`Update`]s that are one snapshot, an empty frame, the SHA-256 of everything
//! before. A file that is not whole is not used at all. It holds hashes of keys, no key.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::feed::message::Update;
use crate::feed::{Applier, frame};

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

/// Reads the file. After an error the state is as closed as before.
pub(crate) fn load(path: &Path, applier: &mut Applier) -> io::Result<()> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() > MOST {
        return Err(io::Error::other("the file is too large"));
    }
    // Read twice, so that nothing is held of a damaged file, and no more than a part in memory.
    parts(&file, |_| Ok(()))?;
    file.seek(SeekFrom::Start(0))?;
    let mut version = None;
    let applied = parts(&file, |bytes| {
        version = applier.apply(frame::decode(bytes)?).map_err(io::Error::other)?;
        Ok(())
    });
    applier.abandon();
    applied?;
    version.map(drop).ok_or_else(|| io::Error::other("the snapshot has no end"))
}

/// Passes on each part of the file, and then says whether it was whole.
fn parts(file: &File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut input = Hashed { inner: BufReader::with_capacity(1 << 20, file), hash: Sha256::new() };
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::Error::other("not a snapshot"));
    }
    loop {
        let bytes = frame::read_bytes(&mut input)?;
        if bytes.is_empty() {
            break;
        }
        each(&bytes)?;
    }
    let expected = input.hash.finalize_reset();
    let mut digest = [0; 32];
    input.read_exact(&mut digest)?;
    if digest == *expected { Ok(()) } else { Err(io::Error::other("the file is damaged")) }
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
