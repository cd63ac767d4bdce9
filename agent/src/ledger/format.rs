//! The format of the usage file.
//!
//! | at | header (one page) | | at | slot (256 bytes) |
//! |---|---|---|---|---|
//! | 0 | `IMPUSE01` | | 0 | length of the name; 0: free |
//! | 8 | generation, number of slots | | 2 | name |
//! | 16 | epoch, a UUID | | 200 | check of the name |
//! | 32 | sequence of the last batch | | 208 | count: two numbers, generation, check |
//! | 40 | check of the agent's id | | 232 | the committed part of it, in the same form |
//! | 48 | check of all before | | | |
//!
//! Checks detect damage, not tampering. A slot lies within one page and one sector, so that a write
//! of it is complete or absent.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use imp_enforce::{Pair, Place};
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"IMPUSE01";

/// Size of the header.
pub(super) const PAGE: usize = 4096;

/// Size of a slot.
pub(super) const SLOT: usize = 256;

/// The longest name.
pub(super) const NAME: usize = 198;

const NAME_CHECK: usize = 200;

/// Offset of the count in a slot.
pub(super) const COUNT: u64 = 208;

/// Offset of the committed part in a slot.
pub(super) const COMMITTED: u64 = 232;

const RECORD: usize = 24;

/// The most slots that are read; a file with more is not ours.
pub(super) const MAX_SLOTS: u32 = 1 << 20;

/// The reason why a file cannot be continued.
#[derive(Debug)]
pub(super) enum Unusable {
    Absent,
    Damaged(&'static str),
    Refused(std::io::Error),
}

/// The header of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts the generations of the counters. A count of an earlier generation is taken over
    /// without its committed part, so that changing only the header begins a new generation.
    pub(super) generation: u32,
    /// The number of slots; fewer in the file are damage.
    pub(super) slots: u32,
    /// Identifies the counters to the control plane.
    pub(super) epoch: Uuid,
    pub(super) sequence: u64,
    /// A hash of the agent's id; 0 if it is not known yet.
    pub(super) agent: u64,
}

impl Header {
    pub(super) fn begin() -> Self {
        Self { generation: 1, slots: 0, epoch: Uuid::now_v7(), sequence: 0, agent: 0 }
    }

    pub(super) fn next(&self) -> Self {
        let generation = self.generation.wrapping_add(1);
        Self { generation, epoch: Uuid::now_v7(), ..self.clone() }
    }

    pub(super) fn encode(&self) -> [u8; 56] {
        let mut bytes = [0; 56];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &self.generation.to_be_bytes());
        put(&mut bytes, 12, &self.slots.to_be_bytes());
        put(&mut bytes, 16, self.epoch.as_bytes());
        put(&mut bytes, 32, &self.sequence.to_be_bytes());
        put(&mut bytes, 40, &self.agent.to_be_bytes());
        let sum = check(bytes.get(..48).unwrap_or_default());
        put(&mut bytes, 48, &sum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let damaged = Unusable::Damaged;
        if bytes.get(..8) != Some(MAGIC) {
            return Err(damaged("it is no usage file"));
        }
        let sum = check(bytes.get(..48).unwrap_or_default());
        if number(bytes, 48) != Some(sum) {
            return Err(damaged("its head is damaged"));
        }
        let cut = || damaged("its head is cut off");
        let numbers = number(bytes, 8).ok_or_else(cut)?;
        let epoch = bytes.get(16..32).and_then(|bytes| Uuid::from_slice(bytes).ok());
        Ok(Self {
            generation: (numbers >> 32) as u32,
            slots: numbers as u32,
            epoch: epoch.ok_or_else(cut)?,
            sequence: number(bytes, 32).ok_or_else(cut)?,
            agent: number(bytes, 40).ok_or_else(cut)?,
        })
    }
}

/// A slot in use.
pub(super) struct Slot<'a> {
    pub(super) name: &'a str,
    pub(super) count: Pair,
    pub(super) committed: Pair,
    pub(super) generation: u32,
}

impl Slot<'_> {
    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        put(&mut bytes, 0, &(self.name.len() as u16).to_be_bytes());
        put(&mut bytes, 2, self.name.as_bytes());
        put(&mut bytes, NAME_CHECK, &check(self.name.as_bytes()).to_be_bytes());
        put(&mut bytes, COUNT as usize, &record(self.count, self.generation));
        put(&mut bytes, COMMITTED as usize, &record(self.committed, self.generation));
        bytes
    }
}

/// The content of a slot in the file.
pub(super) enum Found {
    Free,
    Damaged,
    /// `current`: it is of the header's generation.
    Kept {
        name: String,
        count: Pair,
        committed: Pair,
        current: bool,
    },
}

/// Reads a slot, converted to this generation.
pub(super) fn slot(bytes: &[u8], generation: u32) -> Found {
    let Some(&[high, low]) = bytes.get(..2) else { return Found::Damaged };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 {
        let free = bytes.iter().all(|byte| *byte == 0);
        return if free { Found::Free } else { Found::Damaged };
    }
    let name = bytes.get(2..2 + length).filter(|_| length <= NAME);
    let whole = |name: &&[u8]| number(bytes, NAME_CHECK) == Some(check(name));
    let name = name.filter(whole).and_then(|name| std::str::from_utf8(name).ok());
    let count = record_at(bytes, COUNT as usize);
    let committed = record_at(bytes, COMMITTED as usize);
    let (Some(name), Some(count), Some(committed)) = (name, count, committed) else {
        return Found::Damaged;
    };
    let current = count.1 == generation && committed.1 == generation;
    let (count, committed) = in_life(count, committed, generation);
    Found::Kept { name: name.to_owned(), count, committed, current }
}

/// Reads the count of a slot, converted to this generation.
pub(super) fn count(bytes: &[u8], generation: u32) -> Option<Pair> {
    let count = record_at(bytes, COUNT as usize)?;
    let committed = record_at(bytes, COMMITTED as usize)?;
    Some(in_life(count, committed, generation).0)
}

type Record = (Pair, u32);

fn in_life(count: Record, committed: Record, generation: u32) -> (Pair, Pair) {
    let ([allowed, limited], of) = count;
    let known = if committed.1 == of { committed.0 } else { [0, 0] };
    if of == generation {
        return (count.0, known);
    }
    ([allowed.saturating_sub(known[0]), limited.saturating_sub(known[1])], [0, 0])
}

/// Encodes a pair.
pub(super) fn record(pair: Pair, generation: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    put(&mut bytes, 0, &pair[0].to_be_bytes());
    put(&mut bytes, 8, &pair[1].to_be_bytes());
    put(&mut bytes, 16, &generation.to_be_bytes());
    let sum = check(bytes.get(..20).unwrap_or_default()) as u32;
    put(&mut bytes, 20, &sum.to_be_bytes());
    bytes
}

fn record_at(bytes: &[u8], at: usize) -> Option<Record> {
    let bytes = bytes.get(at..at + RECORD)?;
    let last = number(bytes, 16)?;
    let whole = check(bytes.get(..20)?) as u32 == last as u32;
    whole.then_some(([number(bytes, 0)?, number(bytes, 8)?], (last >> 32) as u32))
}

/// Offset of a slot.
pub(super) fn offset(Place(index): Place) -> u64 {
    PAGE as u64 + u64::from(index) * SLOT as u64
}

/// FNV-1a: a few nanoseconds, because every call computes it.
pub(super) fn check(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(<[u8; 8]>::try_from(bytes.get(at..at + 8)?).ok()?))
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + part.len()) {
        target.copy_from_slice(part);
    }
}

/// Reads the header and the bytes of the slots.
pub(super) fn read(path: &Path) -> Result<(Header, Vec<u8>), Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Unusable::Absent),
        Err(error) => return Err(Unusable::Refused(error)),
    };
    if file.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(Unusable::Damaged("it is no file"));
    }
    let most = offset(Place(MAX_SLOTS));
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(Unusable::Refused)?;
    if bytes.is_empty() {
        return Err(Unusable::Absent);
    }
    let header = Header::decode(&bytes)?;
    let slots = bytes.split_off(PAGE.min(bytes.len()));
    Ok((header, slots))
}

/// Opens the file, accessible to its owner only.
pub(super) fn open(path: &Path, empty: bool) -> std::io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(empty).mode(0o600);
    let file = options.open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}
